import CZlib
import Foundation

/// Checksums of files.
package enum Checksum {
    /// Returns the CRC-32 of bytes, as in zip and gzip (RFC 1952, section 8).
    package static func crc32(_ data: Data) -> UInt32 {
        data.withUnsafeBytes { UInt32(crc32_z(0, $0.bindMemory(to: UInt8.self).baseAddress, $0.count)) }
    }
}
