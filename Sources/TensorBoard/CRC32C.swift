import Foundation

/// The checksum of TFRecord files: the CRC of 32 bits with Castagnoli's polynomial (RFC 3720, B.4), which zlib does not have.
enum CRC32C {
    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { rest, _ in rest >> 1 ^ (rest & 1 == 1 ? 0x82F6_3B78 : 0) }
    }

    /// Returns the checksum of some bytes.
    static func checksum(_ bytes: Data) -> UInt32 {
        ~bytes.reduce(~UInt32(0)) { rest, byte in rest >> 8 ^ table[Int(UInt8(truncatingIfNeeded: rest) ^ byte)] }
    }

    /// Returns the checksum as TFRecord files have it: rotated and moved, so that a checksum of data with checksums is another.
    static func masked(_ bytes: Data) -> UInt32 {
        let checksum = checksum(bytes)
        return (checksum >> 15 | checksum << 17) &+ 0xA282_EAD8
    }
}
