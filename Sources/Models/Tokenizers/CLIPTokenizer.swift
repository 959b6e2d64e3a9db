import Foundation

/// CLIP's byte-pair tokenizer, as Stable Diffusion prompts it: text in, a fixed number of token ids out.
///
/// Read from a folder, the ids equal those of `CLIPTokenizer` in transformers 5 with `padding="max_length", truncation=True`. Source: Radford et al. 2021
/// (CLIP); byte-pair encoding after Sennrich et al. 2016.
public struct CLIPTokenizer: Sendable {
    /// Length of what `encode` returns, begin and end tokens included; 77 for every published Stable Diffusion.
    public let maxLength: Int
    /// Number of token ids, those added to the vocabulary included: rows that the text encoder's embedding needs.
    public let vocabularySize: Int
    /// Id put before every text (`<|startoftext|>`).
    public let startOfTextID: Int
    /// Id put after every text (`<|endoftext|>`); CLIP pools its output at the first of these.
    public let endOfTextID: Int
    /// Id that fills up to `maxLength`: the end token for SD 1.x, `!` for SD 2.x and open_clip.
    public let paddingID: Int
    /// Id that stands for a byte that the vocabulary lacks.
    public let unknownID: Int

    private let bytePairs: BytePairEncoder
    /// Tokens found in the text as it is written, and those found in it once normalised; longest first.
    private let literalTokens: [AddedToken]
    private let normalizedTokens: [AddedToken]
    /// What is done to text before it is cut into words, and which sequences are no words of their own.
    private let normalize: @Sendable ([Unicode.Scalar]) -> [Unicode.Scalar]
    private let spelledTokens: [CLIPText.SpelledToken]

    /// Reads a tokenizer from a folder in diffusers layout.
    ///
    /// - Parameters:
    ///   - folder: holds `tokenizer.json`, or `vocab.json` with `merges.txt`, and `tokenizer_config.json` and `special_tokens_map.json`
    ///     where the model has them; or a folder with such a folder named `tokenizer` in it. Where both forms are there,
    ///     `tokenizer.json` is read, as in transformers.
    ///   - maxLength: overrides `model_max_length` of `tokenizer_config.json`; 77 where neither says.
    /// - Throws: `TokenizerError` naming the file that is missing, cut short or contradicts another.
    public init(folder: URL, maxLength: Int? = nil) throws {
        let files = try CLIPTokenizerFiles(folder: folder)
        bytePairs = BytePairEncoder(files.vocabulary, merges: files.merges, unknownID: files.unknownID)
        self.maxLength = maxLength ?? files.maxLength ?? 77
        try Self.check(self.maxLength)
        normalize = CLIPText.normalize
        spelledTokens = CLIPText.SpelledToken.transformers
        startOfTextID = files.startOfTextID
        endOfTextID = files.endOfTextID
        paddingID = files.paddingID
        unknownID = files.unknownID
        vocabularySize = files.vocabularySize
        let longestFirst = files.addedTokens.sorted { $0.scalars.count > $1.scalars.count }
        literalTokens = longestFirst.filter { !$0.normalized }
        normalizedTokens = longestFirst.filter(\.normalized).map {
            AddedToken(scalars: CLIPText.normalize($0.scalars), id: $0.id, normalized: true)
        }
    }

    /// Reads open_clip's vocabulary; the ids equal those of its `SimpleTokenizer`, but for rare repairs of text (see `OpenCLIPText`).
    ///
    /// - Parameters:
    ///   - file: open_clip's `bpe_simple_vocab_16e6.txt.gz`, as it is or decompressed.
    ///   - maxLength: the model's context length.
    /// - Throws: `TokenizerError` naming the file and, where it is damaged, the line.
    public init(openCLIP file: URL, maxLength: Int = 77) throws {
        try Self.check(maxLength)
        let vocabulary = try OpenCLIPVocabulary(contentsOf: file)
        vocabularySize = vocabulary.size
        startOfTextID = vocabulary.size - 2
        endOfTextID = vocabulary.size - 1
        unknownID = endOfTextID
        paddingID = 0
        bytePairs = BytePairEncoder(
            vocabulary.ids, merges: vocabulary.merges, unknownID: unknownID, whole: OpenCLIPVocabulary.special)
        self.maxLength = maxLength
        (literalTokens, normalizedTokens) = ([], [])
        normalize = OpenCLIPText.normalize
        spelledTokens = CLIPText.SpelledToken.openCLIP
    }

    private static func check(_ maxLength: Int) throws {
        guard maxLength >= 2 else {
            throw TokenizerError("a maximum length of \(maxLength) tokens leaves no room for the begin and end tokens; use at least 2")
        }
    }

    /// Token ids of a text for the text encoder: begin token, text, end token, then padding; longer text is cut.
    ///
    /// - Returns: exactly `maxLength` ids.
    public func encode(_ text: String) -> [Int] {
        var ids = [startOfTextID]
        ids.append(contentsOf: tokenize(text).prefix(maxLength - 2))
        ids.append(endOfTextID)
        ids.append(contentsOf: repeatElement(paddingID, count: maxLength - ids.count))
        return ids
    }

    /// Token ids of a text alone: no begin or end token, no padding, not cut.
    public func tokenize(_ text: String) -> [Int] {
        var ids: [Int] = []
        AddedToken.split(Array(text.unicodeScalars), at: literalTokens, token: { ids.append($0) }) { raw in
            // Each stretch between literal tokens is normalised alone: a combining mark after a token joins nothing before it.
            AddedToken.split(normalize(raw), at: normalizedTokens, token: { ids.append($0) }) { stretch in
                CLIPText.forEachWord(in: stretch, spelled: spelledTokens) { bytePairs.append($0, to: &ids) }
            }
        }
        return ids
    }
}
