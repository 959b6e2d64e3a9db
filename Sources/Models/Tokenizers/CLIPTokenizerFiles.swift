import Foundation

/// The content of a CLIP tokenizer's files: vocabulary,
/// merges and special tokens, checked against one another.
///
/// The precedence of files is that of `from_pretrained` in transformers 5, for folders written by
/// transformers 4 and 5, diffusers and textual inversion (`added_tokens.json`).
struct CLIPTokenizerFiles {
    private(set) var vocabulary: [String: Int]
    private(set) var merges: [BytePairEncoder.Pair: BytePairEncoder.Merge] = [:]
    private(set) var addedTokens: [AddedToken] = []
    private(set) var maxLength: Int?
    private(set) var vocabularySize = 0
    private(set) var startOfTextID = 0
    private(set) var endOfTextID = 0
    private(set) var paddingID = 0
    private(set) var unknownID = 0

    init(folder: URL) throws {
        let folder = try Self.tokenizerFolder(folder)
        let config = try Self.json(TokenizerConfig.self, folder, "tokenizer_config.json")
        for key in ["padding_side", "truncation_side"] {
            guard let value = config?.sides[key], value != "right" else { continue }
            throw TokenizerError(
                "\(folder.appendingPathComponent("tokenizer_config.json").path): \(key) \"\(value)\" is not supported, only \"right\"")
        }
        let whole = try Self.json(TokenizerJSON.self, folder, "tokenizer.json")
        let mergesFile: String
        if let whole {
            mergesFile = "tokenizer.json"
            vocabulary = whole.model.vocab
            try read(whole.model.merges.map(\.parts), from: folder.appendingPathComponent(mergesFile), firstLine: nil)
        } else {
            mergesFile = "merges.txt"
            vocabulary = try Self.json([String: Int].self, folder, "vocab.json") ?? [:]
            try readMerges(folder.appendingPathComponent(mergesFile))
        }
        let vocabularyFile = folder.appendingPathComponent(whole == nil ? "vocab.json" : "tokenizer.json")

        // Special tokens: CLIP's own, overridden by the config's,
        // then by those of the older special_tokens_map.json.
        var special = TokenizerConfig.Specials.clip.overridden(by: config?.specials)
        var added = config?.addedTokens ?? []
        if config?.addedTokens == nil {
            special = special.overridden(by: try Self.json(TokenizerConfig.Specials.self, folder, "special_tokens_map.json"))
            let names = special.inOrder.map(\.content)
            let inverted = try Self.json([String: Int].self, folder, "added_tokens.json") ?? [:]
            added += inverted.map { TokenSpec($0.key, id: $0.value, normalized: !names.contains($0.key)) }
            added += whole?.addedTokens ?? []
        }
        try resolve(special, added, vocabularyFile)
        try validateMerges(folder.appendingPathComponent(mergesFile), vocabularyFile)
        maxLength = config?.maxLength
    }

    /// Finds the id of every special and added token, and how each is matched.
    private mutating func resolve(_ special: TokenizerConfig.Specials, _ added: [TokenSpec], _ vocabularyFile: URL) throws {
        var table: [String: (id: Int, normalized: Bool)] = [:]
        for token in added {
            guard let id = vocabulary[token.content] ?? token.id else { continue }
            table[token.content] = (id, token.normalized)
        }
        let declared = Set(table.keys)
        func id(_ token: TokenSpec) throws -> Int {
            guard let id = vocabulary[token.content] ?? table[token.content]?.id else {
                throw TokenizerError(
                    "\(vocabularyFile.path) has no entry for the special token \(token.content); "
                        + "it is cut short or not CLIP's: copy the model's tokenizer folder again")
            }
            // How a special token is matched is taken from here only
            // if it is not declared elsewhere; the last one counts.
            if !declared.contains(token.content) { table[token.content] = (id, token.normalized) }
            return id
        }
        startOfTextID = try id(special.start!)
        endOfTextID = try id(special.end!)
        unknownID = try id(special.unknown!)
        paddingID = try id(special.padding!)
        addedTokens = table.filter { !$0.key.isEmpty }
            .map { AddedToken(scalars: Array($0.key.unicodeScalars), id: $0.value.id, normalized: $0.value.normalized) }
        let ids = vocabulary.values + table.values.map(\.id)
        guard ids.allSatisfy({ 0...Int(Int32.max) ~= $0 }) else {
            throw TokenizerError(
                "\(vocabularyFile.path): a token's id is below zero or above \(Int32.max); "
                    + "the file is damaged: copy the model's tokenizer folder again")
        }
        vocabularySize = 1 + (ids.max() ?? 0)
    }

    private mutating func readMerges(_ file: URL) throws {
        let text = try Self.text(file, hint: "vocab.json is of no use without it: copy the model's tokenizer folder again")
        var lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        var firstLine = 1
        if let header = lines.first, String(header)?.hasPrefix("#version") == true {
            lines.removeFirst()
            firstLine = 2
        }
        let parts = lines.map { line in
            (line.last == UInt8(ascii: "\r") ? line.dropLast() : line).split(separator: UInt8(ascii: " ")).map { String($0) ?? "" }
        }
        try read(parts, from: file, firstLine: firstLine)
    }

    private mutating func read(_ pairs: [[String]], from file: URL, firstLine: Int?) throws {
        merges.reserveCapacity(pairs.count)
        for (rank, parts) in pairs.enumerated() {
            let place = firstLine.map { "line \($0 + rank)" } ?? "merge \(rank + 1)"
            guard parts.count == 2 else {
                throw TokenizerError(
                    "\(file.path), \(place): expected two tokens, found \(parts.count); "
                        + "the file is damaged: copy the model's tokenizer folder again")
            }
            guard let left = vocabulary[parts[0]], let right = vocabulary[parts[1]],
                let id = vocabulary[parts[0] + parts[1]]
            else {
                throw TokenizerError(
                    "\(file.path), \(place): \"\(parts[0]) \(parts[1])\" uses tokens that the vocabulary lacks; "
                        + "one of the two is cut short or of another model: copy the model's tokenizer folder again")
            }
            merges[BytePairEncoder.Pair(left: left, right: right)] = BytePairEncoder.Merge(rank: rank, id: id)
        }
    }

    /// Refuses merges that were cut short at the end of a line: then there are entries that no merge makes.
    private func validateMerges(_ mergesFile: URL, _ vocabularyFile: URL) throws {
        let made = Set(merges.values.map(\.id)).union(addedTokens.map(\.id))
        let lost = vocabulary.filter { entry in
            let stem = entry.key.hasSuffix("</w>") ? entry.key.dropLast(4) : entry.key[...]
            // Names in angle brackets are tokens that were added by hand.
            return stem.unicodeScalars.count > 1 && !made.contains(entry.value) && !(stem.hasPrefix("<") && stem.hasSuffix(">"))
        }
        guard lost.isEmpty else {
            throw TokenizerError(
                "\(mergesFile.path): no merge makes \(lost.count) of the \(vocabulary.count) entries of "
                    + "\(vocabularyFile.lastPathComponent), \"\(lost.min { $0.value < $1.value }!.key)\" for one; "
                    + "the merges are cut short: copy the model's tokenizer folder again")
        }
    }
}
