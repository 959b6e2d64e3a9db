import Foundation

/// CLIP's byte-pair tokenizer: turns a text into a fixed number of token ids.
///
/// The ids equal those of `CLIPTokenizer` in transformers 5 with `padding="max_length", truncation=True`, or
/// those of open_clip's `SimpleTokenizer`, depending on the initialiser.
/// Source: Radford et al. 2021 (CLIP); Sennrich et al. 2016 (byte-pair encoding).
package struct CLIPTokenizer: Sendable {
    /// The number of ids that `encode` returns, begin and end
    /// tokens included: 77 for every published Stable Diffusion.
    package let maxLength: Int
    /// The number of token ids, added tokens included: the text encoder's embedding needs as many rows.
    package let vocabularySize: Int
    /// The id before every text (`<|startoftext|>`).
    package let startOfTextID: Int
    /// The id after every text (`<|endoftext|>`). CLIP pools its output at the first of these.
    package let endOfTextID: Int
    /// The id that fills up to `maxLength`: the end token for SD 1.x, `!` for SD 2.x and open_clip.
    package let paddingID: Int
    /// The id that stands for a byte that the vocabulary lacks.
    package let unknownID: Int

    private let bytePairs: BytePairEncoder
    /// Tokens that are matched in the text as written, longest first.
    private let literalTokens: [AddedToken]
    /// Tokens that are matched in the normalised text, longest first.
    private let normalizedTokens: [AddedToken]
    /// The normalisation of text before it is cut into words.
    private let normalize: @Sendable ([Unicode.Scalar]) -> [Unicode.Scalar]
    /// Sequences that take precedence over the pattern of words.
    private let spelledTokens: [CLIPText.SpelledToken]

    /// Reads a tokenizer from a folder in diffusers layout.
    ///
    /// - Parameters:
    ///   - folder: a folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`, and possibly with
    ///     `tokenizer_config.json` and `special_tokens_map.json`; or a folder that holds such a folder named
    ///     `tokenizer`. Like transformers, this prefers `tokenizer.json` to the other form.
    ///   - maxLength: overrides `model_max_length` of `tokenizer_config.json`; 77 if neither is given.
    /// - Throws: `TokenizerError` that names the file that is missing, cut short or contradicts another.
    package init(folder: URL, maxLength: Int? = nil) throws {
        let files = try CLIPTokenizerFiles(folder: folder)
        bytePairs = BytePairEncoder(files.vocabulary, merges: files.merges, unknownID: files.unknownID)
        self.maxLength = maxLength ?? files.maxLength ?? 77
        try Self.validate(self.maxLength)
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

    /// Lists the files of a folder that a tokenizer depends on.
    /// - Throws: `TokenizerError` if the folder holds no tokenizer.
    package static func files(folder: URL) throws -> [URL] { try CLIPTokenizerFiles.files(folder) }

    /// Reads open_clip's vocabulary. The ids equal those of its `SimpleTokenizer`, except for rare repairs of
    /// text that `OpenCLIPText` lists.
    ///
    /// - Parameters:
    ///   - file: open_clip's `bpe_simple_vocab_16e6.txt.gz`, compressed or not.
    ///   - maxLength: the model's context length.
    /// - Throws: `TokenizerError` that names the file and, if it is damaged, the line.
    package init(openCLIP file: URL, maxLength: Int = 77) throws {
        try Self.validate(maxLength)
        let vocabulary = try OpenCLIPVocabulary(contentsOf: file)
        vocabularySize = vocabulary.size
        startOfTextID = vocabulary.size - 2
        endOfTextID = vocabulary.size - 1
        unknownID = endOfTextID
        paddingID = 0
        bytePairs = BytePairEncoder(
            vocabulary.ids, merges: vocabulary.merges, unknownID: unknownID, whole: OpenCLIPVocabulary.special)
        self.maxLength = maxLength
        literalTokens = []
        normalizedTokens = []
        normalize = OpenCLIPText.normalize
        spelledTokens = CLIPText.SpelledToken.openCLIP
    }

    private static func validate(_ maxLength: Int) throws {
        guard maxLength >= 2 else {
            throw TokenizerError(
                "a maximum length of \(maxLength) tokens leaves no room for the begin and end tokens; use at least 2")
        }
    }

    /// Returns the token ids of a text for the text encoder: begin token, text, end token, padding.
    ///
    /// - Returns: exactly `maxLength` ids. A text that is too long is cut.
    package func encode(_ text: String) -> [Int] {
        var ids = [startOfTextID]
        ids.append(contentsOf: tokenize(text).prefix(maxLength - 2))
        ids.append(endOfTextID)
        ids.append(contentsOf: repeatElement(paddingID, count: maxLength - ids.count))
        return ids
    }

    /// Returns the token ids of a text alone: no begin or end token, no padding, not cut.
    package func tokenize(_ text: String) -> [Int] {
        var ids: [Int] = []
        AddedToken.split(Array(text.unicodeScalars), at: literalTokens, token: { ids.append($0) }) { raw in
            // Each stretch is normalised alone: a combining mark
            // after a token must not join a letter before it.
            AddedToken.split(normalize(raw), at: normalizedTokens, token: { ids.append($0) }) { stretch in
                CLIPText.forEachWord(in: stretch, spelled: spelledTokens) { bytePairs.append($0, to: &ids) }
            }
        }
        return ids
    }
}
