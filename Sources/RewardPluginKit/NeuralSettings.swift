import Foundation
import Models
import Tensors

/// The settings that a reward is created with.
package struct NeuralSettings {
    private let values: [String: String]
    /// The device to compute on.
    package let device: Device
    /// The type to compute in.
    package let dtype: DType
    /// The number of images computed at once.
    let batchSize: Int
    /// The number of threads of an operation on the CPU; 0 for libtorch's choice.
    let threads: Int
    private let inputs = Inputs()
    private let write: (String) -> Void

    /// The files that the scores depend on, by the key of the option that names them.
    private final class Inputs { var files: [String: [URL]] = [:] }

    /// Reads the settings that every plugin has.
    /// - Parameter log: writes a line for the user.
    /// - Throws: `RewardPluginError` that names the setting.
    init(_ values: [String: String], device: String, log: @escaping (String) -> Void) throws {
        self.values = values
        write = log
        guard device == "cpu" || device.hasPrefix("cuda") else {
            throw RewardPluginError("device \(device) is neither cpu nor cuda")
        }
        guard ["cpu", "cuda", "cuda:0"].contains(device) else {
            throw RewardPluginError("device \(device): set CUDA_VISIBLE_DEVICES and use device=cuda")
        }
        self.device = device == "cpu" ? .cpu : .cuda
        guard self.device == .cpu || Device.cudaIsAvailable else {
            throw RewardPluginError("device=\(device): no CUDA device answers, or the libtorch of this plugin has no CUDA")
        }
        guard let precision = Precision(rawValue: values["precision"] ?? "") else {
            throw RewardPluginError("precision=\(values["precision"] ?? "") is not fp32, bf16 or auto")
        }
        dtype = precision.resolve(on: self.device)
        func number(_ key: String, _ range: ClosedRange<Int>) throws -> Int {
            guard let number = Int(values[key] ?? ""), range ~= number else {
                throw RewardPluginError(
                    "\(key)=\(values[key] ?? "") is not a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
        batchSize = try number("batch_size", 1...65536)
        threads = try number("threads", 0...1024)
    }

    /// The value of an option; empty if there is no such option.
    package subscript(key: String) -> String { values[key] ?? "" }

    /// Writes a line to the host's log, if it has one.
    package func log(_ line: String) { write(line) }

    /// Returns the file that an option names, and makes it part of the fingerprint.
    /// - Parameter hint: a description of the file and where to get it, for messages.
    /// - Throws: `RewardPluginError` if the option is empty or there is no such file.
    package func file(_ key: String, _ hint: String) throws -> URL {
        let file = try url(key, hint)
        if let problem = Self.problem(file) {
            throw RewardPluginError("\(key)=\(self[key]): \(problem); it must be \(hint)")
        }
        inputs.files[key] = [file]
        return file
    }

    /// Returns the file that an option names or, if the option is empty, the file of this name beside another
    /// file. The file is made part of the fingerprint.
    /// - Parameter hint: a description of the file and where to get it, for messages.
    /// - Throws: `RewardPluginError` if there is no such file.
    package func file(_ key: String, orElse name: String, beside other: URL, _ hint: String) throws -> URL {
        guard self[key].isEmpty else { return try file(key, hint) }
        let file = other.deletingLastPathComponent().appendingPathComponent(name)
        if let problem = Self.problem(file) {
            throw RewardPluginError("\(key)= is not given, and \(file.path): \(problem); put \(hint) there")
        }
        inputs.files[key] = [file]
        return file
    }

    /// Returns the model folder that an option names, and makes its files part of the fingerprint.
    /// - Parameters:
    ///   - hint: a description of the folder, for messages.
    ///   - others: returns the files of the fingerprint beside the model's own.
    /// - Throws: `RewardPluginError` if the option is empty;
    ///   `ModelError` if the folder is missing or has no weights; the error of `others`.
    package func folder(_ key: String, _ hint: String, others: (ModelFolder) throws -> [URL] = { _ in [] }) throws -> ModelFolder {
        let folder = try ModelFolder(url(key, hint))
        if let choice = folder.choice { log(choice) }
        inputs.files[key] = try folder.files() + others(folder)
        return folder
    }

    private func url(_ key: String, _ hint: String) throws -> URL {
        guard !self[key].isEmpty else { throw RewardPluginError("\(key)= is missing: \(hint)") }
        return URL(fileURLWithPath: self[key])
    }

    /// Returns the reason why this is not a file; nil if it is one.
    private static func problem(_ url: URL) -> String? {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
            return "no such file"
        }
        return isFolder.boolValue ? "is a folder" : nil
    }

    /// Returns everything that the scores depend on, in words
    /// `key=value`. The hash of its bytes stands for a file.
    ///
    /// Places of files, and settings that only affect speed, are left out.
    /// - Throws: `RewardPluginError` if a file cannot be read.
    func fingerprint() throws -> String {
        let words = values.merging(["precision": "\(dtype)"]) { $1 }.filter { !["batch_size", "threads"].contains($0.key) }
        return try words.sorted { $0.key < $1.key }
            .map { key, value in "\(key)=\(try inputs.files[key].map(FileHash.hash) ?? value)" }
            .joined(separator: " ")
    }
}

/// A setting or file that a plugin cannot use.
package struct RewardPluginError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    package let description: String
    /// - Parameter description: one line that names the culprit.
    package init(_ description: String) { self.description = description }
}
