import Foundation
import Models
import Tensors

/// A reward whose network runs on libtorch: what one of this project's plugins writes. The kit is the rest of a plugin (`dag_reward.h`).
public protocol NeuralReward: AnyObject {
    /// What the plugin is.
    static var card: RewardCard { get }
    /// Loads the network. Throws an error that says in one line what is wrong with which file or setting.
    init(_ settings: NeuralSettings) throws
    /// Scores n pictures, `[n, objectives]`, row-major. Calls never overlap.
    /// - Parameter prompts: one for each picture.
    func score(_ pictures: Pictures, prompts: [String]) throws -> [Float]
}

/// What a plugin says about itself, as in `dag_reward_info`. The options `weights`, `precision` and `batch_size` are added to its own.
public struct RewardCard: Sendable {
    /// Lower-case words joined by `_`.
    public var name, version, description, license, source: String
    /// Name and description, with unit and range; all are to be maximised.
    public var objectives: [(name: String, description: String)]
    /// What `weights` is, with where to get it.
    public var weights: String
    /// Key, default and description of the plugin's own options.
    public var options: [(key: String, defaultValue: String, description: String)]

    /// A card from all that is on it.
    public init(
        name: String, version: String, description: String, license: String, source: String,
        objectives: [(name: String, description: String)], weights: String,
        options: [(key: String, defaultValue: String, description: String)] = []
    ) {
        (self.name, self.version, self.description, self.license) = (name, version, description, license)
        (self.source, self.objectives, self.weights, self.options) = (source, objectives, weights, options)
    }

    var allOptions: [(key: String, defaultValue: String, description: String)] {
        [("weights", "", weights)] + options + [
            ("precision", "fp32", "fp32, bf16, or auto: bf16 where the hardware multiplies it"),
            ("batch_size", "32", "pictures computed at once: a memory setting"),
        ]
    }
}

/// The settings of a reward that is being made.
public struct NeuralSettings {
    private let values: [String: String]
    /// Where to compute.
    public let device: Device
    /// What to compute in.
    public let dtype: DType
    /// Pictures computed at once.
    public let batchSize: Int
    let files: FileLog

    /// The files that the scores depend on, for the fingerprint.
    final class FileLog { var files: [URL] = [] }

    /// Throws `RewardKitError` that names the setting.
    init(_ values: [String: String], device: String) throws {
        self.values = values
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
        guard let size = Int(values["batch_size"] ?? ""), 1...65536 ~= size else {
            throw RewardKitError("batch_size=\(values["batch_size"] ?? "") is not a number from 1 to 65536")
        }
        batchSize = size
        files = FileLog()
    }

    /// The value of an option.
    public subscript(key: String) -> String { values[key] ?? "" }

    /// The file that an option names. Throws `RewardKitError` if it is not given or not there.
    /// - Parameter hint: what it should be.
    public func file(_ key: String, _ hint: String) throws -> URL { try file(url(key, hint), hint: "\(key)=\(self[key])") }

    /// A file that the scores depend on. Throws `RewardKitError` if it is not there.
    public func file(_ url: URL, hint: String) throws -> URL {
        guard FileManager.default.fileExists(atPath: url.path) else { throw RewardKitError("\(hint): no such file or folder") }
        files.files.append(url)
        return url
    }

    /// The model folder that an option names; the scores depend on its files. Throws an error if it is not given, not there or empty.
    /// - Parameter hint: what it should be.
    public func folder(_ key: String, _ hint: String) throws -> ModelFolder {
        let folder = try ModelFolder(url(key, hint))
        files.files += try folder.files()
        return folder
    }

    private func url(_ key: String, _ hint: String) throws -> URL {
        guard !self[key].isEmpty else { throw RewardKitError("\(key)= is missing: \(hint)") }
        return URL(fileURLWithPath: self[key])
    }

    /// Tells one set of files from another, by all their bytes.
    var fingerprint: String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func combine(_ word: UInt64) {
            hash = (hash ^ word) &* 0x9e37_79b9_7f4a_7c15
            hash ^= hash >> 32
        }
        for file in files.files {
            guard let data = try? Data(contentsOf: file, options: .alwaysMapped) else { continue }
            data.withUnsafeBytes { bytes in
                combine(UInt64(bytes.count))
                for start in stride(from: 0, to: bytes.count & ~7, by: 8) {
                    combine(bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self))
                }
                for byte in bytes.suffix(bytes.count & 7) { combine(UInt64(byte)) }
            }
        }
        return String(hash, radix: 16)
    }
}

/// What is wrong, in one line.
public struct RewardKitError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    public let description: String
    /// - Parameter description: one line that names the culprit.
    public init(_ description: String) { self.description = description }
}
