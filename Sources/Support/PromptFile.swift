import Foundation

/// Reading of prompt files: text, CSV, TSV, JSON and JSON lines.
package enum PromptFile {
    /// The most bytes of a prompt's metadata: messages to workers, and checkpoints, hold those of many.
    private static let largestMetadata = 65536

    /// Reads the prompts of a file: one for each line, row or entry, in order, without white space at either
    /// end. Blank ones stay in their places.
    ///
    /// - Parameter path: a UTF-8 file: `.csv` or `.tsv` with a column named "Prompts" or "prompt"; `.json` with a
    ///   list of strings or of objects that have "prompt"; `.jsonl` with one of these a line; and otherwise text
    ///   with one prompt a line, unless it begins as JSON does. The other columns, as texts, and the other keys are
    ///   the prompt's metadata.
    /// - Throws: `PromptError` if the file cannot be read or understood; it names the line.
    package static func read(_ path: String) throws -> [Prompt] {
        let text = try contents(of: path)
        let found: [Prompt]
        switch URL(fileURLWithPath: path).pathExtension.lowercased() {
        case "csv", "tsv": found = try rows(text, file: path).map(\.prompt)
        case "jsonl", "ndjson": found = try jsonLines(text, file: path)
        case "json": found = try isJSONLines(text) ? jsonLines(text, file: path) : json(text, file: path)
        default:
            switch String(text.lazy.filter { !$0.isWhitespace }.prefix(2)) {
            case "{\"": found = try jsonLines(text, file: path)
            case "[\"", "[{": found = try json(text, file: path)
            default: found = lines(text).map { Prompt($0) }
            }
        }
        return found.map(\.trimmed)
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

    /// Returns the prompts of a table with a header line, and the texts of the column named "Category", in any
    /// case, or "" where there is none. Blank lines are skipped.
    ///
    /// The column named "Prompts" or "prompt", in any case, has the prompts. The others that have a name are their
    /// metadata, texts without white space at either end.
    /// - Parameter file: its name, for messages; a name that ends in `.tsv` divides fields by tabs.
    /// - Throws: `PromptError` if there is no column of prompts, if two have one name, or if a row has another number
    ///   of fields than the header.
    package static func rows(_ text: String, file: String) throws -> [(prompt: Prompt, category: String)] {
        let isTSV = file.lowercased().hasSuffix(".tsv")
        var table = try (isTSV ? tabbed(text) : quoted(text, file: file)).filter { _, fields in
            fields.count > 1 || !fields[0].allSatisfy(\.isWhitespace)
        }
        let header = table.isEmpty ? [] : table.removeFirst().fields.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
        let names = header.map { $0.lowercased() }
        guard let column = names.firstIndex(where: ["prompt", "prompts"].contains) else {
            let found = header.map { "\"\($0)\"" }.joined(separator: ", ")
            throw PromptError("\(file) has no column named \"Prompts\" or \"prompt\"; its columns are \(found)")
        }
        let category = names.firstIndex(of: "category")
        let others = header.indices.filter { $0 != column && !header[$0].isEmpty }
        if let twice = Dictionary(grouping: others, by: { header[$0] }).first(where: { $0.value.count > 1 }) {
            throw PromptError("\(file) has \(twice.value.count) columns named \"\(twice.key)\"; rename all but one of them")
        }
        return try table.map { line, fields in
            guard fields.count == header.count else {
                let counts = "\(fields.count) field\(fields.count == 1 ? "" : "s"), the header has \(header.count)"
                let mark = isTSV ? "a tab divides fields" : "put a field with a comma in it between quotation marks"
                let remedy = fields.count > header.count ? mark : "write empty fields too"
                throw PromptError("\(file), line \(line): it has \(counts); \(remedy)")
            }
            let values = others.map { (header[$0], fields[$0].trimmingCharacters(in: .whitespacesAndNewlines)) }
            let metadata = try metadata(Dictionary(uniqueKeysWithValues: values), of: "\(file), line \(line)")
            return (Prompt(fields[column], metadata: metadata), category.map { fields[$0] } ?? "")
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

    /// Returns the prompts of a list of strings or of objects.
    /// - Throws: `PromptError` for other JSON, naming the first wrong entry.
    private static func json(_ text: String, file: String) throws -> [Prompt] {
        guard let value = value(text) else { throw PromptError("\(file) is not valid JSON; it may be cut short") }
        guard let list = value as? [Any] else {
            throw PromptError("\(file) is JSON, but not a list; write a list of strings or of objects with \"prompt\"")
        }
        return try zip(1..., list).map { number, value in
            guard let prompt = try prompt(value, of: "\(file), entry \(number)") else {
                throw PromptError("\(file): entry \(number) is neither a string nor an object with a string \"prompt\"")
            }
            return prompt
        }
    }

    /// Returns the prompt of every line that is not blank.
    private static func jsonLines(_ text: String, file: String) throws -> [Prompt] {
        try zip(1..., lines(text)).filter { !$1.allSatisfy(\.isWhitespace) }.map { number, line in
            guard let value = value(line), let prompt = try prompt(value, of: "\(file), line \(number)") else {
                throw PromptError("\(file), line \(number): it is neither a JSON string nor a JSON object with a string \"prompt\"")
            }
            return prompt
        }
    }

    private static func isJSONLines(_ text: String) -> Bool {
        let filled = lines(text).filter { !$0.allSatisfy(\.isWhitespace) }
        return filled.count > 1 && value(filled[0]).map { !($0 is [Any]) } == true
    }

    private static func value(_ json: String) -> Any? {
        try? JSONSerialization.jsonObject(with: Data(json.utf8), options: .fragmentsAllowed)
    }

    /// Returns a string, or the "prompt" of an object with its other keys as metadata; nil for other values.
    private static func prompt(_ value: Any, of place: String) throws -> Prompt? {
        if let text = value as? String { return Prompt(text) }
        guard var object = value as? [String: Any], let text = object.removeValue(forKey: "prompt") as? String else { return nil }
        return Prompt(text, metadata: try metadata(object, of: place))
    }

    /// Writes metadata as JSON, sorted by key, so that an order of keys makes no other prompt.
    private static func metadata(_ object: [String: Any], of place: String) throws -> String {
        let data = try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
        guard data.count <= largestMetadata else {
            let size = "\(data.count) bytes, of \(largestMetadata) at most"
            throw PromptError("\(place): its metadata have \(size); put what is large into a file, and its path here")
        }
        return String(decoding: data, as: UTF8.self)
    }
}

/// An error in loading prompts.
package struct PromptError: OneLineError {
    /// One line: the file or set and the remedy.
    package let description: String

    /// - Parameter description: one line that names the file or set, and the remedy.
    package init(_ description: String) { self.description = description }
}
