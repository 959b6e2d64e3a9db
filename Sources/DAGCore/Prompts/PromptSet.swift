import Foundation
import Support

/// A named list of prompts to sample from, read from a file or built in.
package struct PromptSet: Sendable {
    /// The built-in set's name, or the file's name without folder and extension.
    package let name: String
    /// The prompts in the order of their source, at least one, without white space at either end.
    package let prompts: [String]

    /// The set for a model without text: one empty prompt.
    package static let none = PromptSet(name: "no prompts", prompts: [""])

    /// Reads the prompts of a built-in set, of a file, or of one of the paper's sets
    /// (`PromptSet+Benchmarks`).
    ///
    /// - Parameter fileOrName: one of `builtInNames`, or a UTF-8 file: `.csv` or `.tsv` with a column named
    ///   "Prompts" or "prompt", `.json` with a list of strings or of objects that have "prompt", and
    ///   otherwise text with one prompt a line. Blank prompts are skipped. A built-in name wins over a file
    ///   of that name; write `./imagenet` for the file.
    /// - Throws: `PromptError` when there is no such set or file, when it cannot be understood, or when it
    ///   holds no prompt.
    package static func load(_ fileOrName: String) throws -> PromptSet {
        if let prompts = builtIn(fileOrName) {
            return PromptSet(name: fileOrName, prompts: prompts)
        }
        if let benchmark = try benchmark(fileOrName) { return benchmark }
        let text = try contents(of: fileOrName)
        let file = URL(fileURLWithPath: fileOrName)
        let found: [String]
        switch file.pathExtension.lowercased() {
        case "csv": found = try PromptFormat.csv(text, file: fileOrName, delimiter: .comma)
        case "tsv": found = try PromptFormat.csv(text, file: fileOrName, delimiter: .tab)
        case "json": found = try PromptFormat.json(text, file: fileOrName)
        default: found = PromptFormat.lines(text)
        }
        let prompts = cleaned(found)
        guard !prompts.isEmpty else {
            throw PromptError("\(fileOrName) holds no prompt; write one a line")
        }
        return PromptSet(name: file.deletingPathExtension().lastPathComponent, prompts: prompts)
    }

    /// Returns the prompts without white space at either end, and without blank ones.
    static func cleaned(_ prompts: [String]) -> [String] {
        prompts.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.filter { !$0.isEmpty }
    }

    /// Returns the text of a prompt file.
    /// - Throws: `PromptError` if it is missing, a folder, or not UTF-8.
    static func contents(of path: String) throws -> String {
        var isFolder = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw PromptError("no prompt file and no built-in prompt set is named \"\(path)\"; \(suggestion(for: path))")
        }
        if isFolder {
            throw PromptError("\(path) is a folder; name a file of prompts (text, CSV or JSON)")
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw PromptError("\(path) cannot be read; check its permissions")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw PromptError("\(path) is not UTF-8 text; save it as UTF-8")
        }
        // Spreadsheets write a byte order mark.
        return text.unicodeScalars.first == "\u{FEFF}" ? String(text.unicodeScalars.dropFirst()) : text
    }
}

/// An error in loading prompts.
package struct PromptError: OneLineError {
    /// One line: the file or set and the remedy.
    package let description: String

    init(_ description: String) { self.description = description }
}
