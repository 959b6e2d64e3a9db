import Foundation
import Images
import Rewards

/// A reward that calls C functions. A parameter's name says what is passed for it: a word of
/// `CPrograms.vocabulary`, or the result of an earlier call.
final class CFunctionReward: Reward, @unchecked Sendable {
    let name: String
    let objectives: [RewardObjective]
    let fingerprint: String
    private let functions: [CFunction]
    /// The index of the function whose result is the score.
    private let counting: Int
    /// Results of the setup, by name.
    private let constants: [String: CValue]
    /// Texts in the programs, which are passed as pointers.
    private let texts: CTexts
    private let lock: NSLock

    /// - Parameters:
    ///   - score: the calls for each image.
    ///   - setup: calls that are made once, now.
    /// - Throws: `RewardError` that begins with the reward's name.
    init(_ library: CLibrary, score: String, setup: String) throws {
        let description = library.description
        guard !score.isEmpty else {
            throw RewardError(
                "reward \(description.name): score= is missing: the prototype of the function to call, such as "
                    + "score=double sharpness(const uint8_t *pixels, int width, int height); \(CPrograms.help)")
        }
        do {
            let programs = try CPrograms(setup: setup, score: score)
            let texts = CTexts(programs.setup + programs.score)
            functions = try programs.score.map { try CFunction($0, in: library) }
            counting = programs.counting
            var results: [String: CValue] = [:]
            try library.lock.withLock {
                for call in programs.setup { try CFunction(call, in: library).run(&results, texts: texts) }
            }
            constants = results
            self.texts = texts
        } catch let error as RewardError {
            throw RewardError("reward \(description.name): \(error)")
        }
        name = description.name
        objectives = description.objectives
        lock = library.lock
        // The file alone: its folder changes no score.
        let file = URL(fileURLWithPath: description.source).lastPathComponent
        fingerprint = "\(name) \(description.version) library=\(file) setup=\(setup) score=\(score)"
    }

    /// Calls the functions for one image after the other, while no other calls the library.
    func result(_ batch: RewardBatch) throws -> RewardResult {
        lock.lock()
        defer { lock.unlock() }
        let scratch = CScratch(batch.images, for: functions)
        var values: [Float] = []
        var reasons: [Int: String] = [:]
        for sample in 0..<batch.count {
            do {
                values.append(try score(sample, of: batch, scratch))
            } catch {
                reasons[sample] = "\(error)"
                values.append(.nan)
            }
        }
        return RewardResult(values: values, reasons: reasons)
    }

    private func score(_ sample: Int, of batch: RewardBatch, _ scratch: CScratch) throws -> Float {
        let images = batch.images
        return try images.withUnsafeBytes { bytes in
            let prompt = strdup(batch.prompts[sample].text)
            let metadata = strdup(batch.prompts[sample].metadata)
            defer {
                free(prompt)
                free(metadata)
            }
            var known = constants
            known.merge(scratch.prepare(bytes.baseAddress! + sample * images.bytesPerImage)) { _, new in new }
            known["width"] = .integer(Int64(images.width))
            known["height"] = .integer(Int64(images.height))
            known["channels"] = .integer(3)
            known["stride"] = .integer(Int64(images.width * 3))
            known["size"] = .integer(Int64(images.bytesPerImage))
            known["prompt"] = .pointer(prompt)
            known["metadata"] = .pointer(metadata)
            known["id"] = .integer(Int64(bitPattern: batch.sampleIDs[sample]))
            known["seed"] = .integer(Int64(bitPattern: batch.seeds[sample]))
            return try functions.map { try $0.run(&known, texts: texts) }[counting].score
        }
    }
}

/// The texts in programs, as C strings.
final class CTexts {
    private let pointers: [String: UnsafeMutablePointer<CChar>]

    init(_ calls: [CCall]) {
        let all = calls.flatMap(\.arguments).compactMap { argument -> String? in
            if case .text(let text) = argument.source { text } else { nil }
        }
        pointers = Dictionary(uniqueKeysWithValues: Set(all).map { ($0, strdup($0)!) })
    }

    deinit { for pointer in pointers.values { free(pointer) } }

    /// Returns a text of the programs.
    subscript(text: String) -> UnsafeMutablePointer<CChar>? { pointers[text] }
}
