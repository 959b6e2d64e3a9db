import Foundation
import Tensors

extension CLIPTokenizerFiles {
    /// Returns the folder itself, or the one named `tokenizer` in it.
    /// - Throws: `TokenizerError` if neither holds a tokenizer.
    static func tokenizerFolder(_ folder: URL) throws -> URL {
        for candidate in [folder, folder.appendingPathComponent("tokenizer")] {
            for name in ["tokenizer.json", "vocab.json"]
            where FileManager.default.fileExists(atPath: candidate.appendingPathComponent(name).path) {
                return candidate
            }
        }
        throw TokenizerError(
            "\(folder.path) holds no tokenizer (neither vocab.json with merges.txt nor tokenizer.json); "
                + "name a model folder in diffusers layout or its tokenizer folder")
    }

    /// Lists the files of a tokenizer that are there.
    /// - Throws: `TokenizerError` if the folder holds no tokenizer.
    static func files(_ folder: URL) throws -> [URL] {
        let folder = try tokenizerFolder(folder)
        let names = ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
        return names.map(folder.appendingPathComponent).filter { FileManager.default.fileExists(atPath: $0.path) }
    }

    /// Reads a file's text.
    /// - Throws: `TokenizerError` that ends in `hint`.
    static func text(_ file: URL, hint: String) throws -> String {
        let data: Data
        do {
            data = try Data(contentsOf: file)
        } catch {
            let missing = !FileManager.default.fileExists(atPath: file.path)
            throw TokenizerError("\(file.path) \(missing ? "is missing" : "cannot be read"); \(hint)")
        }
        if let kind = FileKind.foreign(data, expectsText: true) { throw TokenizerError("\(file.path): \(kind)") }
        guard let text = String(data: data, encoding: .utf8) else {
            throw TokenizerError("\(file.path) is not UTF-8 text; \(hint)")
        }
        return text
    }

    /// Reads a JSON file's content; nil if there is no such file.
    /// - Throws: `TokenizerError` that names the file and the place in it.
    static func json<Content: Decodable>(_ type: Content.Type, _ folder: URL, _ name: String) throws -> Content? {
        let file = folder.appendingPathComponent(name)
        guard FileManager.default.fileExists(atPath: file.path) else { return nil }
        let hint = "copy the model's tokenizer folder again"
        let data = JSONValue.standard(Data(try text(file, hint: hint).utf8))
        do {
            return try JSONDecoder().decode(type, from: data)
        } catch DecodingError.dataCorrupted(let context) where context.codingPath.isEmpty {
            throw TokenizerError("\(file.path) is not valid JSON, it is cut short or damaged; \(hint)")
        } catch {
            throw TokenizerError("\(file.path) is JSON, but not what a CLIP tokenizer has there\(place(of: error)); \(hint)")
        }
    }

    private static func place(of error: any Error) -> String {
        let path: [any CodingKey]
        switch error as? DecodingError {
        case .keyNotFound(let key, let context): path = context.codingPath + [key]
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context): path = context.codingPath
        default: path = []
        }
        return path.isEmpty ? "" : " (at \(path.map(\.stringValue).joined(separator: ".")))"
    }
}

/// A special or added token, which files contain as a string or as an object.
struct TokenSpec: Decodable {
    let content: String
    private(set) var id: Int?
    let normalized: Bool

    private enum Key: String, CodingKey {
        case content, id, normalized, special
    }

    init(_ content: String, id: Int? = nil, normalized: Bool = false) {
        self.content = content
        self.id = id
        self.normalized = normalized
    }

    init(_ other: TokenSpec, id: Int) {
        self.init(other.content, id: id, normalized: other.normalized)
    }

    init(from decoder: any Decoder) throws {
        if let text = try? decoder.singleValueContainer().decode(String.self) {
            self.init(text)
            return
        }
        let object = try decoder.container(keyedBy: Key.self)
        let special = try object.decodeIfPresent(Bool.self, forKey: .special) ?? true
        self.init(
            try object.decode(String.self, forKey: .content), id: try object.decodeIfPresent(Int.self, forKey: .id),
            normalized: try object.decodeIfPresent(Bool.self, forKey: .normalized) ?? !special)
    }
}

/// The parts of `tokenizer_config.json` that are used here.
struct TokenizerConfig: Decodable {
    /// The special tokens of a config or of `special_tokens_map.json`; nil where it names none.
    struct Specials: Decodable {
        private(set) var start: TokenSpec?
        private(set) var end: TokenSpec?
        private(set) var unknown: TokenSpec?
        private(set) var padding: TokenSpec?

        private enum CodingKeys: String, CodingKey {
            case start = "bos_token"
            case end = "eos_token"
            case unknown = "unk_token"
            case padding = "pad_token"
        }

        static let clip = Specials(
            start: TokenSpec("<|startoftext|>"), end: TokenSpec("<|endoftext|>"), unknown: TokenSpec("<|endoftext|>"),
            padding: TokenSpec("<|endoftext|>"))

        var inOrder: [TokenSpec] { [start, end, unknown, padding].compactMap { $0 } }

        func overridden(by other: Specials?) -> Specials {
            Specials(
                start: other?.start ?? start, end: other?.end ?? end, unknown: other?.unknown ?? unknown,
                padding: other?.padding ?? padding)
        }
    }

    let specials: Specials
    let addedTokens: [TokenSpec]?
    /// The value of `model_max_length`; nil if the file has none
    /// or says "no limit", for which transformers writes 1e30.
    let maxLength: Int?
    /// The values of `padding_side` and `truncation_side`.
    let sides: [String: String]

    private enum Key: String, CodingKey {
        case padding_side, truncation_side
        case maxLength = "model_max_length"
        case addedTokens = "added_tokens_decoder"
    }

    init(from decoder: any Decoder) throws {
        specials = try Specials(from: decoder)
        let object = try decoder.container(keyedBy: Key.self)
        maxLength = try object.decodeIfPresent(Double.self, forKey: .maxLength).flatMap { $0 < 1e6 ? Int(max($0, 0)) : nil }
        sides = try [Key.padding_side, .truncation_side].reduce(into: [:]) {
            $0[$1.rawValue] = try object.decodeIfPresent(String.self, forKey: $1)
        }
        addedTokens = try object.decodeIfPresent([String: TokenSpec].self, forKey: .addedTokens)?
            .compactMap { entry in Int(entry.key).map { TokenSpec(entry.value, id: $0) } }
    }
}

/// The parts of `tokenizer.json` that are used here.
struct TokenizerJSON: Decodable {
    struct Model: Decodable {
        let vocab: [String: Int]
        let merges: [MergeSpec]
    }

    /// A merge, which tokenizers up to 0.19 write as "a b" and later ones as ["a", "b"].
    struct MergeSpec: Decodable {
        let parts: [String]

        init(from decoder: any Decoder) throws {
            let value = try decoder.singleValueContainer()
            if let text = try? value.decode(String.self) {
                parts = text.split(separator: " ").map(String.init)
            } else {
                parts = try value.decode([String].self)
            }
        }
    }

    let model: Model
    let addedTokens: [TokenSpec]

    private enum CodingKeys: String, CodingKey {
        case model
        case addedTokens = "added_tokens"
    }
}
