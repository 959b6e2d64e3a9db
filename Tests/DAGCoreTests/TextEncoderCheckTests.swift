import Foundation
import Models
import TestSupport
import Testing

@testable import DAGCore

/// The self-check of the text encoder, and what it says about prompts that are cut. models/tiny-sd takes 12 tokens.
@Suite struct TextEncoderCheckTests {
    /// Returns the lines and the warnings of the self-check on prompts.
    private func check(_ prompts: [String], evaluation: [String]? = nil) throws -> (lines: [String], warnings: [String]) {
        let folder = try TemporaryFolder()
        func file(_ name: String, _ prompts: [String]) throws -> String {
            let file = folder.url.appendingPathComponent(name)
            try Data(prompts.joined(separator: "\n").utf8).write(to: file)
            return file.path
        }
        let prompts = try file("words.txt", prompts)
        let held = try evaluation.map { try file("held.txt", $0) } ?? ""
        let configuration = smallConfiguration {
            $0.prompts = prompts
            $0.evaluationPrompts = held
        }
        let output = OutputFolder(folder.url.appendingPathComponent("run").path)
        try output.prepare()
        let model = try DiffusionPipeline(folder: configuration.model, dtype: .float32, device: .cpu)
        let trainer = try Trainer(
            configuration, model: model, evaluator: brightness(), prompts: PromptSet.load(prompts),
            evaluationPrompts: held.isEmpty ? nil : PromptSet.load(held), output: output)
        var warnings: [String] = []
        trainer.monitor.onWarning = { warnings.append($0) }
        return (try trainer.selfCheck(), warnings)
    }

    /// CLIP lower-cases and joins white space.
    @Test func promptsAreComparedByTheirTokens() throws {
        func separates(_ prompts: [String]) throws -> Bool { try check(prompts).lines.contains { $0.hasPrefix("text encoder separates") } }
        #expect(try separates(["A red boot", "a red boot", "a tee"]))
        #expect(try !separates(["A red boot", "a  red boot", "a red boot"]))
        #expect(try !separates(["a red boot"]))
    }

    @Test func cutPromptsAreCounted() throws {
        let long = Array(repeating: "red", count: 11).joined(separator: " ")
        let (_, warnings) = try check(["a red boot", long + " tee", long + " boot"], evaluation: ["a tee", long])
        #expect(warnings.count == 2)
        #expect(
            warnings.first
                == "words: 2 of 3 different prompts have more than 10 tokens (12 with the begin and end tokens); the rest is cut off, "
                + "in '\((long + " tee").prefix(60))...' first; the same after that: prompts 2, 3")
        #expect(warnings.last?.hasPrefix("held: 1 of 2 different prompts have more than 10 tokens") == true)
        #expect(try check(["a red boot", "a tee"]).warnings.isEmpty)
    }
}
