import Foundation
import Support
import TensorBoard
import Tensors

/// A file or folder that cannot be written or read.
package struct OutputError: MessageError {
    /// One line: the culprit and the remedy.
    package let message: Message

    /// An error with a message of one line that names the place.
    package init(_ message: Message) { self.message = message }
}

/// The folder of a run: pytorch_lora_weights.safetensors, report.html, metrics.jsonl, tensorboard/, samples/,
/// checkpoints/, config.yaml.
package struct OutputFolder: Sendable {
    /// The folder.
    package let url: URL
    static let loraName = "pytorch_lora_weights.safetensors"
    private static let averageName = "pytorch_lora_weights_ema.safetensors"

    /// Names a folder, which need not exist yet.
    package init(_ path: String) { url = URL(fileURLWithPath: path) }

    var metrics: URL { url.appendingPathComponent("metrics.jsonl") }
    /// The page that shows the run.
    package var page: URL { url.appendingPathComponent("report.html") }
    var samples: URL { url.appendingPathComponent("samples") }
    /// Returns the file of the sample sheet N epochs into training.
    func sampleSheet(epoch: Int) -> URL { samples.appendingPathComponent("epoch-\(epoch).png") }
    /// Prompts and seeds of the sample sheets, a JSON object a line.
    var samplePrompts: URL { samples.appendingPathComponent("prompts.jsonl") }
    /// The epochs, in order, after which there is a sample sheet.
    var sampledEpochs: [Int] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: samples.path)) ?? []
        return names.compactMap { $0.wholeMatch(of: /epoch-([0-9]{1,9})\.png/).flatMap { Int($0.1) } }.sorted()
    }
    /// Event files, one of each start of the run.
    var tensorBoard: URL { url.appendingPathComponent("tensorboard") }
    var checkpoints: URL { url.appendingPathComponent("checkpoints") }
    /// The settings of the run.
    package var configuration: URL { url.appendingPathComponent("config.yaml") }
    /// Whether a run has been started in the folder.
    package var hasRun: Bool { FileManager.default.fileExists(atPath: configuration.path) }
    /// The adapter that diffusers loads.
    package var lora: URL { url.appendingPathComponent(Self.loraName) }
    /// The average of the adapter's weights, likewise.
    package var averagedLora: URL { url.appendingPathComponent(Self.averageName) }

    /// Checks that a new run may use the folder.
    /// - Throws: `OutputError` if it is not empty or cannot be read.
    package func checkVacant() throws {
        let files = FileManager.default
        guard files.fileExists(atPath: url.path) else { return }
        let existing: [String]
        do { existing = try files.contentsOfDirectory(atPath: url.path) } catch {
            throw OutputError("\(setting: "output") \(url.path): cannot be read (\(reason(error))); choose another folder")
        }
        // A run that ended before its first file leaves empty folders, and unfinished files if it was killed.
        let remains = [samples, checkpoints].filter { (try? files.contentsOfDirectory(atPath: $0.path))?.allSatisfy(isUnfinished) == true }
        guard Set(existing.filter { !isUnfinished($0) }).isSubset(of: remains.map(\.lastPathComponent)) else {
            throw OutputError(
                """
                \(setting: "output") \(url.path): is not empty; choose another folder, \
                or continue that run with \(setting: "resume") \(url.path)
                """)
        }
    }

    /// Claims the folder, which exists, for one trainer.
    /// - Throws: `OutputError` if another trainer has it.
    func claim() throws -> Claim {
        let descriptor = open(url.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        // Any other failure means that the file system has no locks; go on without.
        if flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK {
            close(descriptor)
            throw OutputError(
                "\(url.path): is in use by another trainer, of this process or of another; wait for its end, or choose another folder")
        }
        return Claim(descriptor)
    }

    /// One trainer's hold on a folder. It ends with this object, and with the process in any case.
    final class Claim: Sendable {
        private let descriptor: Int32

        fileprivate init(_ descriptor: Int32) { self.descriptor = descriptor }

        deinit {
            flock(descriptor, LOCK_UN)  // closing alone would leave the lock to forked children
            close(descriptor)
        }
    }

    /// Returns whether a file is what an interrupted write of a run leaves behind.
    private func isUnfinished(_ name: String) -> Bool {
        name.hasSuffix(".tmp")
            && [
                ".config.yaml.", ".\(Self.loraName).", ".\(Self.averageName).", ".epoch-", ".prompts.jsonl.", ".report.html.", ".writable.",
            ].contains(where: name.hasPrefix)
    }

    /// Removes the unfinished files of writes that were interrupted. The folder has been claimed.
    func removeUnfinished() {
        let files = FileManager.default
        for folder in [url, samples, checkpoints] {
            for name in (try? files.contentsOfDirectory(atPath: folder.path)) ?? [] where isUnfinished(name) {
                try? files.removeItem(at: folder.appendingPathComponent(name))
            }
        }
    }

    /// Makes the folders and tries to write in each.
    /// - Throws: `OutputError`.
    package func prepare() throws {
        for folder in [url, samples, checkpoints] {
            let probe = folder.appendingPathComponent(".writable.\(getpid()).tmp")
            do {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
                try Data("x".utf8).write(to: probe)
                try FileManager.default.removeItem(at: probe)
            } catch {
                throw OutputError(
                    "\(setting: "output") \(folder.path): cannot be written (\(reason(error))); choose another folder or free some space")
            }
        }
    }

    /// Writes config.yaml.
    /// - Throws: `OutputError`.
    package func writeConfiguration(_ settings: TrainingConfiguration) throws {
        try Self.writeAtomically(Data(settings.yaml().utf8), to: configuration)
    }

    /// Reads metrics.jsonl; nothing if there is none yet.
    /// - Throws: `OutputError`.
    func readMetrics() throws -> String {
        guard FileManager.default.fileExists(atPath: metrics.path) else { return "" }
        do { return String(decoding: try Data(contentsOf: metrics), as: UTF8.self) } catch {
            throw OutputError("\(metrics.path): cannot be read (\(reason(error)))")
        }
    }

    /// Appends a line to metrics.jsonl.
    /// - Throws: `OutputError`.
    func append(_ line: Data) throws {
        do {
            if !FileManager.default.fileExists(atPath: metrics.path) { try Data().write(to: metrics) }
            let handle = try FileHandle(forWritingTo: metrics)
            defer { try? handle.close() }
            let end = try handle.seekToEnd()
            do { try handle.write(contentsOf: line) } catch {
                // A part of the line would be joined by the next one.
                try? handle.truncate(atOffset: end)
                throw error
            }
        } catch {
            throw OutputError("\(metrics.path): cannot be written (\(reason(error)))")
        }
    }

    /// Writes what TensorBoard is to show.
    /// - Throws: `OutputError`.
    func write(_ events: EventFile) throws {
        do {
            try FileManager.default.createDirectory(at: tensorBoard, withIntermediateDirectories: true)
            try events.write()
        } catch {
            throw OutputError("\(events.url.path): cannot be written (\(reason(error)))")
        }
    }

    /// Bytes of metrics.jsonl so far.
    var metricsLength: UInt64 {
        ((try? FileManager.default.attributesOfItem(atPath: metrics.path)[.size]) as? NSNumber)?.uint64Value ?? 0
    }

    /// Cuts metrics.jsonl back to its length at a checkpoint: a resumed run writes the later lines again.
    /// - Throws: `OutputError`.
    func truncateMetrics(to length: UInt64) throws {
        guard metricsLength > length else { return }
        do {
            let handle = try FileHandle(forWritingTo: metrics)
            defer { try? handle.close() }
            try handle.truncate(atOffset: length)
        } catch {
            throw OutputError("\(metrics.path): cannot be written (\(reason(error)))")
        }
    }

    /// Replaces a file so that the old or the new one is always whole: temporary name, sync, rename, sync.
    /// - Throws: `OutputError`.
    package static func writeAtomically(_ data: Data, to url: URL) throws {
        let temporary = url.deletingLastPathComponent().appendingPathComponent(".\(url.lastPathComponent).\(getpid()).tmp")
        do {
            guard FileManager.default.createFile(atPath: temporary.path, contents: nil) else {
                throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO)
            }
            let handle = try FileHandle(forWritingTo: temporary)
            try handle.write(contentsOf: data)
            try handle.synchronize()
            try handle.close()
            guard rename(temporary.path, url.path) == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
            let folder = open(url.deletingLastPathComponent().path, O_RDONLY)
            if folder >= 0 {
                fsync(folder)
                close(folder)
            }
        } catch {
            try? FileManager.default.removeItem(at: temporary)
            throw OutputError("\(url.path): cannot be written (\(reason(error))); what was there before is untouched")
        }
    }
}

/// Returns the operating system's message of an error of Foundation.
private func reason(_ error: any Error) -> String {
    let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError ?? error as NSError
    return underlying.domain == NSPOSIXErrorDomain ? String(cString: strerror(Int32(underlying.code))) : error.localizedDescription
}
