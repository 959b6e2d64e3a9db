import Foundation

/// Reading of prompt files: text, CSV, TSV, JSON and JSON lines.
package enum PromptFile {
    /// Reads the prompts of a file: one for each line, row or entry, in order, without white space at either
    /// end. Blank ones stay in their places.
    ///
    /// - Parameter path: a UTF-8 file: `.csv` or `.tsv` with a column named "Prompts" or "prompt"; `.json` with a
    ///   list of strings or of objects that have "prompt"; `.jsonl` with one of these a line; and otherwise text
    ///   with one prompt a line, unless it begins as JSON does.
    /// - Throws: `PromptError` if the file cannot be read or understood; it names the line.
    package static func read(_ path: String) throws -> [String] {
        let text = try contents(of: path)
        let found: [String]
        switch URL(fileURLWithPath: path).pathExtension.lowercased() {
        case "csv", "tsv": found = try rows(text, file: path).map(\.prompt)
        case "jsonl", "ndjson": found = try jsonLines(text, file: path)
        case "json": found = try isJSONLines(text) ? jsonLines(text, file: path) : json(text, file: path)
        default:
            switch String(text.lazy.filter { !$0.isWhitespace }.prefix(2)) {
            case "{\"": found = try jsonLines(text, file: path)
            case "[\"", "[{": found = try json(text, file: path)
            default: found = lines(text)
            }
        }
        return found.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
    }

    /// Returns the text of a file, without a byte order mark, which spreadsheets write.
    /// - Throws: `PromptError` if it is missing, a folder, or not UTF-8.
    package static func contents(of path: String) throws -> String {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw PromptError("there is no file \(path)")
        }
        guard !isFolder.boolValue else {
            throw PromptError("\(path) is a folder; name a file of prompts (text, CSV or JSON)")
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw PromptError("\(path) cannot be read; check its permissions")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw PromptError("\(path) is not UTF-8 text; save it as UTF-8")
        }
        return text.unicodeScalars.first == "\u{FEFF}" ? String(text.unicodeScalars.dropFirst()) : text
    }

    /// Returns the lines of a text with any system's line ends; Unicode's other line breaks belong to the
    /// prompt.
    package static func lines(_ text: String) -> [String] {
        var lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }.map(String.init)
        if lines.last == "" { lines.removeLast() }
        return lines
    }

    /// Returns the column named "Prompts" or "prompt", in any case, of a table with a header line, and the one
    /// named "Category", or "" where there is none. Blank lines are skipped.
    /// - Parameter file: its name, for messages; a name that ends in `.tsv` divides fields by tabs.
    /// - Throws: `PromptError` if there is no column of prompts, or if a row has another number of fields than
    ///   the header.
    package static func rows(_ text: String, file: String) throws -> [(prompt: String, category: String)] {
        let isTSV = file.lowercased().hasSuffix(".tsv")
        var table = try (isTSV ? tabbed(text) : quoted(text, file: file)).filter { _, fields in
            fields.count > 1 || !fields[0].allSatisfy(\.isWhitespace)
        }
        let header = table.isEmpty ? [] : table.removeFirst().fields
        let names = header.map { $0.trimmingCharacters(in: .whitespaces).lowercased() }
        guard let column = names.firstIndex(where: ["prompt", "prompts"].contains) else {
            let found = header.map { "\"\($0)\"" }.joined(separator: ", ")
            throw PromptError("\(file) has no column named \"Prompts\" or \"prompt\"; its columns are \(found)")
        }
        let category = names.firstIndex(of: "category")
        return try table.map { line, fields in
            guard fields.count == header.count else {
                let counts = "\(fields.count) field\(fields.count == 1 ? "" : "s"), the header has \(header.count)"
                let mark = isTSV ? "a tab divides fields" : "put a field with a comma in it between quotation marks"
                let remedy = fields.count > header.count ? mark : "write empty fields too"
                throw PromptError("\(file), line \(line): it has \(counts); \(remedy)")
            }
            return (fields[column], category.map { fields[$0] } ?? "")
        }
    }

    private typealias Row = (line: Int, fields: [String])

    /// Divides lines at tabs. There are no quotation marks in this format.
    private static func tabbed(_ text: String) -> [Row] {
        zip(1..., lines(text)).map { ($0, $1.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)) }
    }

    /// Divides CSV (RFC 4180) into fields. White space around quotation marks is ignored. SwiftCSV does not serve: messages
    /// need a row's line, which it does not give.
    private static func quoted(_ text: String, file: String) throws -> [Row] {
        enum Place { case start, plain, quoted, closed }
        var rows: [Row] = []
        var fields: [String] = []
        var field = String.UnicodeScalarView()
        var place = Place.start
        var line = 1
        var firstLine = 1
        func wrong(_ problem: String) -> PromptError { PromptError("\(file), line \(line): \(problem)") }
        // By scalars: a letter's accent must not hide the comma before it.
        let text = text.replacing("\r\n", with: "\n").replacing("\r", with: "\n")
        for scalar in text.hasSuffix("\n") ? text.unicodeScalars : (text + "\n").unicodeScalars {
            switch (place, scalar) {
            case (.quoted, "\""): place = .closed
            case (.quoted, _): field.append(scalar)
            case (_, ","), (_, "\n"):
                fields.append(String(field))
                field.removeAll()
                place = .start
                if scalar == "\n" {
                    rows.append((firstLine, fields))
                    fields = []
                    firstLine = line + 1
                }
            case (.closed, "\""):
                field.append(scalar)
                place = .quoted
            case (.start, "\""): place = .quoted
            case (.start, _) where scalar.properties.isWhitespace, (.closed, _) where scalar.properties.isWhitespace: break
            case (.closed, _): throw wrong("check its quotation marks: text follows the closing one")
            case (.plain, "\""): throw wrong("check its quotation marks: put the field between them, and write one in it twice")
            default:
                field.append(scalar)
                place = .plain
            }
            if scalar == "\n" { line += 1 }
        }
        guard place != .quoted else {
            throw PromptError(
                "\(file), line \(firstLine): it opens a quotation mark that it never closes; write a quotation mark in a field twice")
        }
        return rows
    }

    /// Returns a list of strings, or the "prompt" of a list of objects.
    /// - Throws: `PromptError` for other JSON, naming the first wrong entry.
    package static func json(_ text: String, file: String) throws -> [String] {
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

    /// Returns a string, or the "prompt" of an object, of every line that is not blank.
    private static func jsonLines(_ text: String, file: String) throws -> [String] {
        try zip(1..., lines(text)).filter { !$1.allSatisfy(\.isWhitespace) }.map { number, line in
            guard let entry = entry(line) else {
                throw PromptError("\(file), line \(number): it is neither a JSON string nor a JSON object with a string \"prompt\"")
            }
            return entry.prompt
        }
    }

    private static func isJSONLines(_ text: String) -> Bool {
        let filled = lines(text).filter { !$0.allSatisfy(\.isWhitespace) }
        return filled.count > 1 && entry(filled[0]) != nil
    }

    private static func entry(_ line: String) -> Entry? { try? JSONDecoder().decode(Entry.self, from: Data(line.utf8)) }

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

/// An error in loading prompts.
package struct PromptError: OneLineError {
    /// One line: the file or set and the remedy.
    package let description: String

    /// - Parameter description: one line that names the file or set, and the remedy.
    package init(_ description: String) { self.description = description }
}
