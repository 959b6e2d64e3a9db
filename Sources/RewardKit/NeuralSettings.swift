import Foundation
import Models
import Tensors

/// The settings of a reward that is being made.
public struct NeuralSettings {
    private let values: [String: String]
    /// Where to compute.
    public let device: Device
    /// What to compute in.
    public let dtype: DType
    /// Pictures computed at once.
    let batchSize: Int
    /// Threads of an operation on the CPU; 0: libtorch's choice.
    let threads: Int
    private let inputs = Inputs()
    private let write: (String) -> Void

    /// The files that the scores depend on, by the key that names them.
    private final class Inputs { var files: [String: [URL]] = [:] }

    /// Throws `RewardKitError` that names the setting.
    /// - Parameter log: takes a line for the user.
    init(_ values: [String: String], device: String, log: @escaping (String) -> Void) throws {
        self.values = values
        write = log
        guard device == "cpu" || device.hasPrefix("cuda") else { throw RewardKitError("device \(device) is neither cpu nor cuda") }
        guard ["cpu", "cuda", "cuda:0"].contains(device) else {
            throw RewardKitError("device \(device): set CUDA_VISIBLE_DEVICES and use device=cuda")
        }
        self.device = device == "cpu" ? .cpu : .cuda
        guard self.device == .cpu || Device.cudaIsAvailable else {
            throw RewardKitError("device=\(device): no CUDA device answers, or the libtorch of this plugin has no CUDA")
        }
        guard let precision = Precision(rawValue: values["precision"] ?? "") else {
            throw RewardKitError("precision=\(values["precision"] ?? "") is not fp32, bf16 or auto")
        }
        dtype = precision.resolve(on: self.device)
        func number(_ key: String, _ range: ClosedRange<Int>) throws -> Int {
            guard let number = Int(values[key] ?? ""), range ~= number else {
                throw RewardKitError("\(key)=\(values[key] ?? "") is not a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
        (batchSize, threads) = try (number("batch_size", 1...65536), number("threads", 0...1024))
    }

    /// The value of an option.
    public subscript(key: String) -> String { values[key] ?? "" }

    /// Writes a line to the host's log, where it has one.
    public func log(_ line: String) { write(line) }

    /// The file that an option names; the scores depend on it. Throws `RewardKitError` if it is not given or not there.
    /// - Parameter hint: what it should be, and where to get it.
    public func file(_ key: String, _ hint: String) throws -> URL {
        let file = try url(key, hint)
        if let problem = Self.problem(file) { throw RewardKitError("\(key)=\(self[key]): \(problem); it is to be \(hint)") }
        inputs.files[key] = [file]
        return file
    }

    /// The file that an option names or, where it is not given, the one of this name beside another.
    /// - Parameter hint: as for `file`.
    public func file(_ key: String, orElse name: String, beside other: URL, _ hint: String) throws -> URL {
        guard self[key].isEmpty else { return try file(key, hint) }
        let file = other.deletingLastPathComponent().appendingPathComponent(name)
        if let problem = Self.problem(file) {
            throw RewardKitError("\(key)= is not given, and \(file.path): \(problem); put \(hint) there")
        }
        inputs.files[key] = [file]
        return file
    }

    /// The model folder that an option names; the scores depend on its files. Throws an error if it is not given, not there or empty.
    /// - Parameter hint: what it should be.
    public func folder(_ key: String, _ hint: String) throws -> ModelFolder {
        let folder = try ModelFolder(url(key, hint))
        inputs.files[key] = try folder.files()
        return folder
    }

    private func url(_ key: String, _ hint: String) throws -> URL {
        guard !self[key].isEmpty else { throw RewardKitError("\(key)= is missing: \(hint)") }
        return URL(fileURLWithPath: self[key])
    }

    /// Why it cannot be read as a file; nil: it can.
    private static func problem(_ url: URL) -> String? {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else { return "no such file" }
        return isFolder.boolValue ? "is a folder" : nil
    }

    /// All that the scores depend on, in words `key=value`, where a hash of its bytes stands for a file. What only decides how fast they come is
    /// left out, and so is where a file is.
    func fingerprint() throws -> String {
        let words = values.merging(["precision": "\(dtype)"]) { $1 }.filter { !["batch_size", "threads"].contains($0.key) }
        return try words.sorted { $0.key < $1.key }
            .map { key, value in "\(key)=\(try inputs.files[key].map(FileHash.hash) ?? value)" }
            .joined(separator: " ")
    }
}

/// What is wrong, in one line.
public struct RewardKitError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    public let description: String
    /// - Parameter description: one line that names the culprit.
    public init(_ description: String) { self.description = description }
}
