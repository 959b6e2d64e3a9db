import Foundation
import Support

/// The paper's prompts for ImageReward and HPSv2 (section 5.2), from the files as published, divided into
/// prompts to train on and prompts that are held out.
extension PromptSet {
    /// Names of the sets:
    ///
    /// - `drawbench:FILE` and `drawbench-heldout:FILE`: DrawBench as CSV with the columns Prompts and
    ///   Category (Saharia et al. 2022), without "Misspellings" and "Rare Words"; the first 2 prompts of each
    ///   category are held out.
    /// - `hpdv2:FOLDER` and `hpdv2-heldout:FOLDER`: benchmark_photo.json and benchmark_paintings.json of
    ///   HPDv2 (Wu et al. 2023); the first 10 of each are held out.
    package static let benchmarkNames = ["drawbench", "drawbench-heldout", "hpdv2", "hpdv2-heldout"]

    /// Returns one of these sets; nil for other names.
    /// - Throws: `PromptError` if its file is missing or not as published.
    static func benchmark(_ text: String) throws -> PromptSet? {
        guard let colon = text.firstIndex(of: ":"), benchmarkNames.contains(String(text[..<colon])) else { return nil }
        let name = String(text[..<colon])
        let path = String(text[text.index(after: colon)...])
        let isDrawBench = name.hasPrefix("drawbench")
        let isHeldOut = name.hasSuffix("-heldout")
        guard FileManager.default.fileExists(atPath: path) else {
            throw PromptError("\(text): there is no \(isDrawBench ? "file" : "folder") \(path)")
        }
        let heldOut = isDrawBench ? 2 : 10
        let prompts = try (isDrawBench ? drawBench(path) : hpdv2(path)).flatMap { group in
            let group = cleaned(group)
            return isHeldOut ? group.prefix(heldOut) : group.dropFirst(heldOut)
        }
        guard !prompts.isEmpty else { throw PromptError("\(path) has too few prompts for \(name)") }
        return PromptSet(name: name, prompts: prompts)
    }

    /// Returns the prompts by category, in the order of the file.
    private static func drawBench(_ path: String) throws -> [[Prompt]] {
        let rows = try PromptFile.rows(PromptFile.contents(of: path), file: path)
        guard rows.contains(where: { !$0.category.isEmpty }) else {
            throw PromptError("\(path) has no column named \"Category\"; drawbench: takes DrawBench's CSV file")
        }
        var order: [String] = []
        var groups: [String: [Prompt]] = [:]
        for (prompt, category) in rows where !["Misspellings", "Rare Words"].contains(category) {
            if groups[category] == nil { order.append(category) }
            groups[category, default: []].append(prompt)
        }
        return order.map { groups[$0]! }
    }

    private static func hpdv2(_ folder: String) throws -> [[Prompt]] {
        try ["photo", "paintings"].map { style in
            let file = "\(folder)/benchmark_\(style).json"
            guard FileManager.default.fileExists(atPath: file) else {
                throw PromptError("\(file) is missing; hpdv2: takes the folder of HPDv2's benchmark_*.json")
            }
            return try PromptFile.read(file)
        }
    }
}
