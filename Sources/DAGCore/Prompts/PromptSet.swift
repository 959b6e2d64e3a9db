import Foundation
import Support
import Tensors

/// A named list of prompts to sample from, read from a file or built in.
package struct PromptSet: Sendable {
    /// The built-in set's name, or the file's name without folder and extension.
    package let name: String
    /// The prompts in the order of their source, at least one, without white space at either end.
    package let prompts: [Prompt]

    /// Tells the prompts and their metadata from others.
    var fingerprint: String {
        let all = prompts.map(\.rawValue).joined(separator: "\n")
        return String(format: "%d of checksum %08x", prompts.count, Checksum.crc32(Data(all.utf8)))
    }

    /// The set for a model without text: one empty prompt.
    package static let none = PromptSet(name: "no prompts", prompts: [""])

    /// Reads the prompts of a built-in set, of a file, or of one of the paper's sets
    /// (`PromptSet+Benchmarks`).
    ///
    /// - Parameter fileOrName: one of `builtInNames`, or a file for `PromptFile`, whose blank prompts are skipped.
    ///   A built-in name wins over a file of that name; write `./imagenet` for the file.
    /// - Throws: `PromptError` when there is no such set or file, when it cannot be understood, or when it
    ///   holds no prompt.
    package static func load(_ fileOrName: String) throws -> PromptSet {
        if let prompts = builtIn(fileOrName) {
            return PromptSet(name: fileOrName, prompts: prompts.map { Prompt($0) })
        }
        if let benchmark = try benchmark(fileOrName) { return benchmark }
        guard FileManager.default.fileExists(atPath: fileOrName) else {
            throw PromptError("no prompt file and no built-in prompt set is named \"\(fileOrName)\"; \(suggestion(for: fileOrName))")
        }
        let prompts = cleaned(try PromptFile.read(fileOrName))
        guard !prompts.isEmpty else {
            throw PromptError("\(fileOrName) holds no prompt; write one a line")
        }
        let name = URL(fileURLWithPath: fileOrName).deletingPathExtension().lastPathComponent
        return PromptSet(name: name, prompts: prompts)
    }

    /// Returns the prompts without white space at either end, and without blank ones.
    static func cleaned(_ prompts: [Prompt]) -> [Prompt] { prompts.map(\.trimmed).filter { !$0.text.isEmpty } }
}
