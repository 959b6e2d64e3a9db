import Foundation
import SwiftCSV

/// Readers of the formats of prompt files. Blank prompts are not dropped.
enum PromptFormat {
    /// Returns the lines of a text with any system's line ends; Unicode's other line breaks belong to the
    /// prompt.
    static func lines(_ text: String) -> [String] {
        text.split { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }.map(String.init)
    }

    /// Returns the column named "Prompts" or "prompt", in any case, of a table with a header line (RFC 4180).
    /// - Throws: `PromptError` for text that is not a table, or has no such column.
    static func csv(_ text: String, file: String, delimiter: CSVDelimiter) throws -> [String] {
        try rows(text, file: file, delimiter: delimiter).map(\.prompt)
    }

    /// Returns that column with the one named "Category", or "" where there is none.
    /// - Throws: `PromptError` for text that is not a table, or has no column of prompts.
    static func rows(_ text: String, file: String, delimiter: CSVDelimiter) throws -> [(prompt: String, category: String)] {
        // The parser would read an open quotation as one long field that ends with the file.
        guard text.utf8.count(where: { $0 == UInt8(ascii: "\"") }).isMultiple(of: 2) else {
            throw PromptError("\(file) opens a quotation mark that it never closes; write a quotation mark in a field twice")
        }
        let table: NamedCSV
        do {
            // Quoted line breaks come out the same from every system.
            table = try NamedCSV(string: text.replacing("\r\n", with: "\n"), delimiter: delimiter, loadColumns: false)
        } catch {
            throw PromptError("\(file) is not a table that can be read (\(error)); check its quotation marks")
        }
        func isPrompt(_ name: String) -> Bool {
            ["prompt", "prompts"].contains(name.trimmingCharacters(in: .whitespaces).lowercased())
        }
        guard let column = table.header.first(where: isPrompt) else {
            let found = table.header.map { "\"\($0)\"" }.joined(separator: ", ")
            throw PromptError("\(file) has no column named \"Prompts\" or \"prompt\"; its columns are \(found)")
        }
        let category = table.header.first { $0.trimmingCharacters(in: .whitespaces).lowercased() == "category" }
        return table.rows.compactMap { row in row[column].map { ($0, category.flatMap { row[$0] } ?? "") } }
    }

    /// Returns a list of strings, or the "prompt" of a list of objects.
    /// - Throws: `PromptError` for other JSON, naming the first wrong entry.
    static func json(_ text: String, file: String) throws -> [String] {
        let data = Data(text.utf8)
        do {
            return try JSONDecoder().decode([Entry].self, from: data).map(\.prompt)
        } catch DecodingError.dataCorrupted(let context) where context.codingPath.isEmpty {
            throw PromptError("\(file) is not valid JSON; it may be cut short")
        } catch DecodingError.typeMismatch(_, let context) where context.codingPath.isEmpty {
            throw PromptError("\(file) is JSON, but not a list; write a list of strings or of objects with \"prompt\"")
        } catch {
            let path = (error as? DecodingError)?.codingPath ?? []
            let place = path.first?.intValue.map { "entry \($0 + 1)" } ?? "an entry"
            throw PromptError("\(file): \(place) is neither a string nor an object with a string \"prompt\"")
        }
    }

    private struct Entry: Decodable {
        let prompt: String

        private enum Key: String, CodingKey {
            case prompt
        }

        init(from decoder: any Decoder) throws {
            if let text = try? decoder.singleValueContainer().decode(String.self) {
                prompt = text
            } else {
                prompt = try decoder.container(keyedBy: Key.self).decode(String.self, forKey: .prompt)
            }
        }
    }
}

extension DecodingError {
    fileprivate var codingPath: [any CodingKey] {
        switch self {
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context), .dataCorrupted(let context):
            context.codingPath
        @unknown default: []
        }
    }
}
