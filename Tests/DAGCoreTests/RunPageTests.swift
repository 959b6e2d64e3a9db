import Foundation
import Images
import Rewards
import Support
import TestSupport
import Testing

@testable import DAGCore

@Suite struct RunPageTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private var output: OutputFolder { OutputFolder(folder.url.appendingPathComponent("run").path) }

    /// The data of a page.
    private func data(_ page: Data) throws -> [String: Any] {
        let text = String(decoding: page, as: UTF8.self)
        let start = try #require(text.range(of: "id=\"data\">")).upperBound
        let end = try #require(text.range(of: "</script>", range: start..<text.endIndex)).lowerBound
        return try #require(JSONSerialization.jsonObject(with: Data(text[start..<end].utf8)) as? [String: Any])
    }

    private func run(of page: Data) throws -> [String: Any] { try #require((data(page)["runs"] as? [[String: Any]])?.first) }

    /// A page of a longer run has a part of its lines and sheets, the first and the last among them, and all evaluations.
    @Test func longRunsAreThinned() throws {
        try output.prepare()
        var lines = [#"{"epoch":0,"evaluation_samples":4}"#]
        lines += (0..<4501).map { "{\"epoch\":\($0),\"loss\":1,\"step\":\($0),\"transitions_per_second\":1}" }
        lines.append(#"{"epoch":4501,"evaluation_samples":4}"#)
        try Data(lines.map { $0 + "\n" }.joined().utf8).write(to: output.metrics)
        let images = try ImageBatch(pixels: [UInt8](repeating: 7, count: 16 * 3), count: 16, height: 1, width: 1)
        for epoch in 0...60 { try images.writeSheet(columns: 4, to: output.sampleSheet(epoch: epoch)) }

        let run = try run(of: RunPage(output, smallConfiguration()).html())
        let metrics = try #require(run["metrics"] as? String).split(separator: "\n").map(String.init)
        #expect(metrics.count == 1503 && metrics.first == lines.first && metrics.last == lines.last)
        #expect(metrics[1] == lines[1] && metrics[2] == lines[4] && metrics[1501] == lines[4501])
        let samples = try #require(run["samples"] as? [String: Any])
        let epochs = try #require(samples["sheets"] as? [[String: Any]]).compactMap { $0["epoch"] as? Int }
        #expect(epochs.count == 40 && epochs.first == 0 && epochs.last == 60 && epochs == epochs.sorted() && Set(epochs).count == 40)
        #expect(samples["height"] as? Int == 96 && (run["problems"] as? [String])?.isEmpty == true)
    }

    /// The page is made anew after each epoch and after an evaluation.
    @Test func isRenewed() throws {
        let trainer = try trainer(smallConfiguration { ($0.epochs, $0.evaluationSamples, $0.sampleEvery) = (2, 4, 1) }, folder)
        try trainer.saveSamples()
        func steps() throws -> Int {
            let metrics = try run(of: Data(contentsOf: output.page))["metrics"] as? String
            return try #require(metrics).split(separator: "\n").count
        }
        #expect(try steps() == 0)
        try trainer.runEpoch()
        #expect(try steps() == 2)
        try trainer.run()
        #expect(try steps() == 4)
        _ = try trainer.evaluate()
        #expect(try steps() == 5)
        let settings = try #require(run(of: Data(contentsOf: output.page))["settings"] as? [[String: Any]])
        let keys = settings.flatMap { $0["settings"] as? [[String: Any]] ?? [] }.compactMap { $0["key"] as? String }
        #expect(keys == TrainingConfiguration.settings.map(\.key))
    }
}
