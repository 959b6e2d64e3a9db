import Foundation

/// The hash that stands for weights in a fingerprint: equal for equal bytes, and in practice for no others.
///
/// It compares a run's files with those that its checkpoint was made with, so it need not resist an attacker.
/// It takes eight bytes at a time, because published weights are gigabytes. Its values are in checkpoints:
/// another hash would refuse to resume them.
enum FileHash {
    /// Hashes the lengths and all bytes of files, in their order.
    /// - Returns: a hexadecimal number of 64 bits.
    /// - Throws: `RewardPluginError` that names a file that cannot be read.
    static func hash(_ files: [URL]) throws -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func combine(_ word: UInt64) {
            hash = (hash ^ word) &* 0x9e37_79b9_7f4a_7c15
            hash ^= hash >> 32
        }
        for file in files {
            let data: Data
            do {
                data = try Data(contentsOf: file, options: .alwaysMapped)
            } catch {
                throw RewardPluginError("\(file.path): cannot be read (\(error.localizedDescription))")
            }
            data.withUnsafeBytes { bytes in
                combine(UInt64(bytes.count))
                for start in stride(from: 0, to: bytes.count & ~7, by: 8) {
                    combine(bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self))
                }
                for byte in bytes.suffix(bytes.count & 7) { combine(UInt64(byte)) }
            }
        }
        return String(hash, radix: 16)
    }
}
