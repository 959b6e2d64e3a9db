import Foundation
import Images
import Rewards
import Support
import Tensors

/// The saved state of a run, one safetensors file: adapters, networks, optimisers and rollout are tensors,
/// all else is JSON in its header. A tensor at its end holds the CRC-32 of all bytes before it.
struct Checkpoint: Codable {
    let state: TrainingState
    /// The rewards' fingerprint.
    let rewards: String
    /// The prompts' fingerprint; nil in a checkpoint of an older version.
    let prompts: String?
    /// LoRA, flow network and both optimisers.
    let tensors: [String: Tensor]
    /// The trajectories of the epoch under way.
    private(set) var rollout: Rollout?
    /// The whole JSON text, which also holds the algorithm's state.
    private let text: Data

    /// The JSON in the file's header. `progress` has the keys of the training state and the algorithm's.
    fileprivate struct Record<Progress> {
        var version = Checkpoint.version
        let progress: Progress
        let rewards: String
        let prompts: String?
        let rollout: RolloutRecord?
    }

    /// The parts of a rollout that are not tensors, in one object.
    fileprivate struct RolloutRecord: Codable {
        let prompts: [Prompt]
        let scores: RolloutScores

        init(_ rollout: Rollout) {
            prompts = rollout.prompts
            scores = rollout.scores
        }

        private enum CodingKeys: CodingKey { case prompts }

        init(from decoder: any Decoder) throws {
            prompts = try decoder.container(keyedBy: CodingKeys.self).decode([Prompt].self, forKey: .prompts)
            scores = try RolloutScores(from: decoder)
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(prompts, forKey: .prompts)
            try scores.encode(to: encoder)
        }
    }

    /// The training state and the algorithm's in one object.
    private struct States: Encodable {
        let training: TrainingState
        let algorithm: any Encodable

        func encode(to encoder: any Encoder) throws {
            try training.encode(to: encoder)
            try algorithm.encode(to: encoder)
        }
    }

    private static let key = "dag_checkpoint"
    /// The format: 1 had no checksum.
    private static let version = 2
    /// The tensor of the checksum, int64 [1]. Tensors lie in the order of their names, and ~ comes after all.
    private static let checksum = "~crc32"
    /// The tensor of the final images, uint8 [N, H, W, 3]; missing in files of 0.1.0.
    private static let images = "rollout.images"
    /// Number of checkpoints to keep: the newest, and the one before in case the newest is damaged.
    private static let kept = 2

    /// Gathers the state of a run.
    /// - Throws: `EncodingError`.
    init(
        _ state: TrainingState, algorithm: some Algorithm, rewards: String, prompts: String?, tensors: [String: Tensor],
        rollout: Rollout?
    ) throws {
        self.state = state
        self.rewards = rewards
        self.prompts = prompts
        self.tensors = tensors
        self.rollout = rollout
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        text = try encoder.encode(
            Record(
                progress: States(training: state, algorithm: algorithm.state), rewards: rewards, prompts: prompts,
                rollout: rollout.map(RolloutRecord.init)))
    }

    /// Returns the checkpoint with the states of some trajectories alone, if it has any.
    func holding(_ trajectories: [Int]) -> Checkpoint {
        var part = self
        part.rollout = rollout?.holding(trajectories)
        return part
    }

    /// Writes the checkpoint and removes the oldest ones.
    /// - Throws: `OutputError` if it cannot be written, `TensorError`.
    func save(to folder: OutputFolder) throws {
        var all = tensors
        if let rollout {
            for (name, list) in Self.lists(rollout) where !list.isEmpty { all["rollout.\(name)"] = Tensor.stack(list, 0) }
            // The last state may be before a step without noise, whose weights are gone after the first update.
            all[Self.images] = rollout.images.map { images in
                Tensor(images.withUnsafeBytes { Array($0) }, shape: [images.count, images.height, images.width, 3])
            }
        }
        all[Self.checksum] = Tensor([0] as [Int64])
        var data = try Safetensors.encode(all, metadata: [Self.key: String(decoding: text, as: UTF8.self)])
        data.replaceSubrange((data.count - 8)..., with: Self.checksum(of: data))
        try OutputFolder.writeAtomically(data, to: folder.checkpoints.appendingPathComponent(Self.name(state)))
        for old in Self.files(folder).dropFirst(Self.kept) { try? FileManager.default.removeItem(at: old) }
    }

    /// Returns the checksum of a file but for its last eight bytes, as these eight bytes.
    private static func checksum(of file: Data) -> Data {
        withUnsafeBytes(of: Int64(Checksum.crc32(file.dropLast(8))).littleEndian) { Data($0) }
    }

    private static func name(_ state: TrainingState) -> String {
        String(format: "epoch-%05d-step-%07d.safetensors", state.epoch, state.step)
    }

    private static func lists(_ rollout: Rollout) -> [(String, [Tensor])] {
        [
            ("states", rollout.states), ("log_forward", rollout.logForward), ("guided", rollout.guided),
            ("log_reference", rollout.logReference),
        ]
    }

    /// The checkpoints of a run, newest first.
    private static func files(_ folder: OutputFolder) -> [URL] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.checkpoints.path)) ?? []
        return names.filter { $0.hasPrefix("epoch-") && $0.hasSuffix(".safetensors") }.sorted(by: >).map(
            folder.checkpoints.appendingPathComponent)
    }

    /// Returns whether a run has reached its first checkpoint, which comes with a LoRA.
    static func exists(in folder: OutputFolder) -> Bool {
        !files(folder).isEmpty || FileManager.default.fileExists(atPath: folder.lora.path)
    }

    /// Says how a run goes on whose numbers are no longer finite in a state.
    static func wayBack(from state: TrainingState, in folder: OutputFolder) -> Message {
        let files = files(folder)
        guard let newest = files.first else { return "nothing is saved yet, so \(setting: "resume") starts again" }
        guard newest.lastPathComponent == name(state) else { return "\(setting: "resume") goes on from \(newest.path)" }
        guard files.count > 1 else { return "\(newest.path) holds these weights, and is the first: start a new run" }
        return "\(newest.path) holds these weights: remove it, and \(setting: "resume") goes on from \(files[1].lastPathComponent)"
    }

    /// Reads the newest readable checkpoint of a run.
    /// - Parameter onDamage: receives a line about each that is passed over.
    /// - Throws: `OutputError` if there is none.
    init(newestOf folder: OutputFolder, onDamage: (String) -> Void = { _ in }) throws {
        var problems: [String] = []
        for file in Self.files(folder) {
            do { self = try Checkpoint(contentsOf: file) } catch {
                problems.append("\(error)")
                continue
            }
            for problem in problems { onDamage("\(problem); going on from the checkpoint before, \(file.lastPathComponent)") }
            return
        }
        if let newest = problems.first { throw OutputError("\(newest)") }
        throw OutputError("\(setting: "resume") \(folder.url.path): no checkpoint there (checkpoints/epoch-*.safetensors)")
    }

    private init(contentsOf file: URL) throws {
        let stored = try Safetensors(contentsOf: file)
        text = Data((stored.metadata[Self.key] ?? "").utf8)
        guard let record = try? Self.decoder.decode(Record<TrainingState>.self, from: text) else {
            throw OutputError("\(file.path): not a checkpoint of dag-train, or damaged")
        }
        guard record.version <= Self.version else {
            throw OutputError("\(file.path): has format \(record.version), of a newer version of dag-train; resume with that version")
        }
        if record.version > 1 {
            let data = try Data(contentsOf: file, options: .alwaysMapped)
            guard stored.tensors[Self.checksum] != nil, data.suffix(8) == Self.checksum(of: data) else {
                throw OutputError("\(file.path): damaged (another checksum)")
            }
        }
        func list(_ name: String) throws -> [Tensor] {
            guard let tensor = stored.tensors["rollout.\(name)"] else { throw OutputError("\(file.path): rollout.\(name) is missing") }
            return (0..<tensor.size(0)).map { tensor.select(0, $0).clone() }
        }
        state = record.progress
        rewards = record.rewards
        prompts = record.prompts
        tensors = stored.tensors.filter { !$0.key.hasPrefix("rollout.") && $0.key != Self.checksum }
        rollout = try record.rollout.map {
            Rollout(
                prompts: $0.prompts, held: Array($0.prompts.indices), states: try list("states"), logForward: try list("log_forward"),
                guided: try list("guided"),
                logReference: stored.tensors["rollout.log_reference"] == nil ? [] : try list("log_reference"), scores: $0.scores,
                images: try stored.tensors[Self.images].map {
                    try ImageBatch(pixels: $0.array(), count: $0.size(0), height: $0.size(1), width: $0.size(2))
                })
        }
    }

    private static var decoder: JSONDecoder {
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        return decoder
    }

    /// Restores the algorithm's state.
    /// - Throws: `DecodingError` if the checkpoint is another algorithm's.
    func restore<Kind: Algorithm>(_ algorithm: Kind) throws {
        algorithm.state = try Self.decoder.decode(Record<Kind.State>.self, from: text).progress
    }
}

extension Checkpoint.Record: Encodable where Progress: Encodable {}
extension Checkpoint.Record: Decodable where Progress: Decodable {}

extension RolloutScores: Codable {
    private enum CodingKeys: String, CodingKey {
        case final = "rewards"
        case lookahead, objectives, imputed, firstFailure
    }

    /// Reads the scores of a checkpoint, whose objectives are in the order of their names.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let objectives = try container.decode([String: [Float]].self, forKey: .objectives)
        self.init(
            final: try container.decode([Float].self, forKey: .final), lookahead: try container.decode([[Float]].self, forKey: .lookahead),
            objectives: objectives.sorted { $0.key < $1.key }.map { ObjectiveScores($0.key, $0.value) },
            imputed: try container.decode(Int.self, forKey: .imputed),
            firstFailure: try container.decodeIfPresent(String.self, forKey: .firstFailure))
    }

    /// Writes the scores with the objectives as an object by name.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(final, forKey: .final)
        try container.encode(lookahead, forKey: .lookahead)
        try container.encode(
            Dictionary(objectives.map { ($0.name, $0.scores) }) { first, _ in first }, forKey: .objectives)
        try container.encode(imputed, forKey: .imputed)
        try container.encodeIfPresent(firstFailure, forKey: .firstFailure)
    }
}
