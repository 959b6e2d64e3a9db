import Foundation

/// Byte-pair encoding of single words with CLIP's vocabulary. Words already seen are remembered.
///
/// Source: Sennrich et al. 2016, on bytes (Radford et al. 2019). The last byte of a word carries `</w>`.
struct BytePairEncoder: Sendable {
    /// A merge of two neighbouring tokens. The merge of the lowest rank comes first.
    struct Merge: Sendable {
        let rank: Int
        let id: Int
    }

    /// Two neighbouring tokens.
    struct Pair: Hashable, Sendable {
        let left: Int
        let right: Int
    }

    private let merges: [Pair: Merge]
    /// The ids of the 256 bytes inside a word.
    private let inner: [Int]
    /// The ids of the 256 bytes at the end of a word.
    private let last: [Int]
    private let memory: WordMemory

    /// - Parameter whole: words that are one token each.
    init(_ vocabulary: [String: Int], merges: [Pair: Merge], unknownID: Int, whole: [String] = []) {
        memory = WordMemory(Dictionary(whole.map { (Array($0.utf8), [vocabulary[$0] ?? unknownID]) }) { $1 })
        self.merges = merges
        inner = Self.alphabet.map { vocabulary[String($0)] ?? unknownID }
        last = Self.alphabet.map { vocabulary[String($0) + "</w>"] ?? unknownID }
    }

    /// Appends a word's token ids; the word must not be empty.
    func append(_ word: [UInt8], to ids: inout [Int]) {
        ids.append(contentsOf: memory.ids(of: word, else: encode))
    }

    private func encode(_ word: [UInt8]) -> [Int] {
        var ids = word.dropLast().map { inner[Int($0)] }
        ids.append(last[Int(word[word.count - 1])])
        // ranks[i] belongs to the pair (i, i + 1). A merge changes only the pairs next to it.
        var ranks = zip(ids, ids.dropFirst()).map { rank($0, $1) }
        while let best = ranks.indices.min(by: { ranks[$0] < ranks[$1] }), ranks[best] < .max {
            ids[best] = merges[Pair(left: ids[best], right: ids[best + 1])]!.id
            ids.remove(at: best + 1)
            ranks.remove(at: best)
            if best > 0 { ranks[best - 1] = rank(ids[best - 1], ids[best]) }
            if best < ranks.count { ranks[best] = rank(ids[best], ids[best + 1]) }
        }
        return ids
    }

    private func rank(_ left: Int, _ right: Int) -> Int {
        merges[Pair(left: left, right: right)]?.rank ?? .max
    }

    /// The character that stands for each byte in vocabulary files: the byte itself if it prints, else the
    /// next unused character from U+0100 on.
    static let alphabet: [Unicode.Scalar] = {
        var next: UInt32 = 0x100
        return (UInt8.min...UInt8.max).map { byte in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(byte)
            default:
                defer { next += 1 }
                return Unicode.Scalar(next)!
            }
        }
    }()
}

/// A bounded memory of words and their token ids: prompts share most of their words.
private final class WordMemory: @unchecked Sendable {
    private let lock = NSLock()
    private var known: [[UInt8]: [Int]]

    init(_ known: [[UInt8]: [Int]]) { self.known = known }

    func ids(of word: [UInt8], else encode: ([UInt8]) -> [Int]) -> [Int] {
        if let ids = lock.withLock({ known[word] }) { return ids }
        let ids = encode(word)
        // Long words hardly ever return. The bounds keep a stream of new words from filling the memory.
        if word.count <= 64 {
            lock.withLock {
                if known.count < 20_000 { known[word] = ids }
            }
        }
        return ids
    }
}
