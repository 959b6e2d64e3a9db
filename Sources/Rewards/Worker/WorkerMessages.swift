import Foundation

/// The protocol that host and worker speak.
enum WorkerProtocol {
    /// Raised with every change. A worker names its version with its description; version 1 did not.
    static let version = 2
}

/// A request of the host. The images do not go over the wire: they lie in shared memory, `[count, height,
/// width, 3]`.
enum WorkerRequest: Codable {
    case describe
    case make(options: [String: String], device: String, timeout: Double?)
    case score(batch: Batch)

    /// A batch but for its pixels.
    struct Batch: Codable {
        let count, height, width: Int
        let prompts, metadata: [String]
        let ids, seeds: [UInt64]
    }
}

/// An answer of a worker. With `scores` come float32 numbers as binary data, `[count, objectives]`.
enum WorkerAnswer: Codable {
    case description(RewardDescription, version: Int)
    case made(fingerprint: String)
    case scores(reasons: [Int: String])
    /// The reward itself reports an error.
    case error(String)

    private enum CodingKeys: String, CodingKey { case description, version = "protocol", made, scores, error }

    // By hand: synthesised code would call values without a label `_0`.
    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        if let text = try container.decodeIfPresent(String.self, forKey: .error) {
            self = .error(text)
        } else if let description = try container.decodeIfPresent(RewardDescription.self, forKey: .description) {
            self = .description(description, version: try container.decodeIfPresent(Int.self, forKey: .version) ?? 1)
        } else if let fingerprint = try container.decodeIfPresent(String.self, forKey: .made) {
            self = .made(fingerprint: fingerprint)
        } else {
            self = .scores(reasons: try container.decode([Int: String].self, forKey: .scores))
        }
    }

    /// Returns the scores of a batch; nil if these are none, or those of another batch.
    func result(_ data: Data, count: Int, objectives: Int) -> RewardResult? {
        guard case .scores(let reasons) = self, data.count == 4 * count * objectives, reasons.keys.allSatisfy((0..<count).contains)
        else { return nil }
        return RewardResult(values: data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }, reasons: reasons)
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .description(let description, let version):
            try container.encode(description, forKey: .description)
            try container.encode(version, forKey: .version)
        case .made(let fingerprint): try container.encode(fingerprint, forKey: .made)
        case .scores(let reasons): try container.encode(reasons, forKey: .scores)
        case .error(let text): try container.encode(text, forKey: .error)
        }
    }
}
