import Foundation
import TestSupport
import Testing

@testable import Rewards

/// docs/rewards/README.md, which `make docs-tables` writes from what the shipped plugins say of themselves.
@Suite struct GalleryTests {
    private let folder = repository.appendingPathComponent("docs/rewards")

    @Test func listsEveryReward() throws {
        let pages = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0 != "README.md" }.sorted()
        let rows = try pages.map { page in
            let name = page.replacing(".md", with: "").replacing("-", with: "_")
            let reward = try RewardLibrary(path: RewardSpecification(name).locate().path).description
            let objectives = Self.series(reward.objectives).map { first, last in
                let names = first.name == last.name ? "`\(first.name)`" : "`\(first.name)` to `\(last.name)`"
                return "| | \(names)\(first.direction == .maximize ? "" : " (less is better)") | \(first.detail) | | |"
            }
            let settings = reward.options.map { "`\($0.key)`" }.joined(separator: ", ")
            return (["| **[`lib\(name).so`](\(page))** | | \(reward.detail) | \(reward.license) | \(settings) |"] + objectives)
                .map { $0.replacing("\n", with: " ") + "\n" }.joined()
        }
        let text = """
            # Rewards

            What the plugins say of themselves (`dag-reward info NAME`); the pages say how to get their weights, what they are biased to,
            and how they were compared with the published code. Written by `make docs-tables`.

            | plugin | objective | scores | license | settings |
            |---|---|---|---|---|

            """ + rows.joined()
        let file = folder.appendingPathComponent("README.md")
        if ProcessInfo.processInfo.environment["DAG_WRITE_DOCS"] != nil { try Data(text.utf8).write(to: file) }
        #expect(
            try String(contentsOf: file, encoding: .utf8) == text, "docs/rewards/README.md is not what plugins say: run `make docs-tables`")
    }

    /// Neighbours that differ by a number at their ends count as one.
    private static func series(_ objectives: [RewardObjective]) -> [(first: RewardObjective, last: RewardObjective)] {
        func stem(_ objective: RewardObjective) -> Substring { objective.name[...].trimmingSuffix(while: \.isNumber) }
        var series: [(first: RewardObjective, last: RewardObjective)] = []
        for objective in objectives {
            if let last = series.last?.last, stem(last) == stem(objective), last.name.last?.isNumber == true {
                series[series.count - 1].last = objective
            } else {
                series.append((objective, objective))
            }
        }
        return series
    }
}

extension Substring {
    fileprivate func trimmingSuffix(while predicate: (Character) -> Bool) -> Substring {
        self[..<(lastIndex { !predicate($0) }.map(index(after:)) ?? startIndex)]
    }
}
