import CDAGCore

/// Texts in one buffer, as the C ABI borrows them: with their lengths, and NUL-terminated too.
package struct BorrowedTexts: Sendable {
    private var bytes: [UInt8] = []
    private var sizes: [Int] = []

    /// - Parameter texts: at least one.
    package init(_ texts: [String]) {
        for text in texts {
            bytes.append(contentsOf: text.utf8)
            bytes.append(0)
            sizes.append(text.utf8.count)
        }
    }

    /// Lends the texts, `[count]`, to a function.
    package func withTexts<Result>(_ body: (UnsafePointer<dag_reward_text>) throws -> Result) rethrows -> Result {
        try bytes.withUnsafeBytes { buffer in
            var offset = 0
            let texts = sizes.map { size in
                defer { offset += size + 1 }
                return dag_reward_text(data: buffer.baseAddress!.advanced(by: offset).assumingMemoryBound(to: CChar.self), size: size)
            }
            return try texts.withUnsafeBufferPointer { try body($0.baseAddress!) }
        }
    }
}
