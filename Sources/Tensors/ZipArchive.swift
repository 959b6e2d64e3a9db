import CZlib
import Foundation

/// The zip archive that torch.save writes. Its members are not compressed, so they can be used in place in the
/// mapped file; those of an archive that was packed again are.
///
/// Source: PKWARE's APPNOTE, sections 4.3 and 4.5.3 (zip64).
struct ZipArchive {
    enum Problem: Error, CustomStringConvertible {
        case cutShort
        case damaged(String)
        /// Sound, but another program's, with the remedy.
        case foreign(String)

        var description: String {
            switch self {
            case .cutShort: "cut short"
            case .damaged(let what): "damaged, or not as torch.save writes it (\(what))"
            case .foreign(let kind): kind
            }
        }
    }

    /// The first bytes of every zip file.
    static let signature = Data([0x50, 0x4B, 3, 4])

    private struct Member {
        let checksum: UInt32
        /// The place of its local header, in bytes from the file's start.
        let header: Int
        /// The number of its bytes, and of those in the file.
        let size, packedSize: Int
        /// 0: stored; 8: deflated.
        let method: Int
    }

    /// The whole file.
    let data: Data
    private var members: [String: Member] = [:]

    /// Reads the directory at the file's end.
    /// - Throws: `Problem`.
    init(_ data: Data) throws {
        self.data = data
        let (count, start) = try directory()
        var place = start
        for _ in 0..<count {
            guard try number(place, 4) == 0x0201_4b50 else {
                throw Problem.damaged("not a zip entry at byte \(place)")
            }
            let lengths = try (name: number(place + 28, 2), extra: number(place + 30, 2), comment: number(place + 32, 2))
            let name = String(decoding: try bytes(place + 46, lengths.name), as: UTF8.self)
            var fields = try [24, 20, 42].map { try number(place + $0, 4) }
            try widen(&fields, place + 46 + lengths.name, lengths.extra)
            members[name] = try Member(
                checksum: UInt32(number(place + 16, 4)), header: fields[2], size: fields[0], packedSize: fields[1],
                method: number(place + 10, 2))
            place += 46 + lengths.name + lengths.extra + lengths.comment
        }
    }

    /// Names of the members.
    var names: some Sequence<String> { members.keys }

    /// Returns a member's bytes: their place in the file, or in memory of their own if they are compressed.
    /// - Throws: `Problem` if there is no such member or its checksum is wrong.
    func content(of name: String) throws -> (data: Data, range: Range<Int>) {
        guard let member = members[name] else { throw Problem.damaged("it has no \(name)") }
        guard try number(member.header, 4) == 0x0403_4b50 else {
            throw Problem.damaged("\(name) is not where it should be")
        }
        let start = try member.header + 30 + number(member.header + 26, 2) + number(member.header + 28, 2)
        let packed = try bytes(start, member.packedSize)
        let content: (data: Data, range: Range<Int>)
        switch member.method {
        case 0 where member.size == member.packedSize: content = (data, start..<start + member.size)
        case 8: content = (try Self.inflated(packed, size: member.size), 0..<member.size)
        default: throw Problem.foreign("\(name) is packed in a way that is not supported; torch.save it again")
        }
        // The checksum is zero if torch.save was told to leave it out
        // (`torch.serialization.set_crc32_options`).
        guard member.checksum == 0 || member.checksum == Checksum.crc32(content.data[content.range]) else {
            throw Problem.damaged("\(name) has another checksum")
        }
        return content
    }

    /// Unpacks deflated bytes (RFC 1951).
    /// - Returns: `size` bytes, and some behind them: so few that `Data` would keep them in itself have no
    ///   address that a tensor could point to.
    private static func inflated(_ packed: Data, size: Int) throws -> Data {
        let broken = Problem.damaged("a compressed entry cannot be unpacked")
        // A byte unpacks to 1032 at most. No size is believed before.
        guard size / 1032 <= packed.count else { throw broken }
        var stream = z_stream()
        guard inflateInit2_(&stream, -MAX_WBITS, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { throw broken }
        defer { inflateEnd(&stream) }
        var content = Data(count: size + 64)
        let status = packed.withUnsafeBytes { source in
            content.withUnsafeMutableBytes { target in
                stream.next_in = UnsafeMutablePointer(mutating: source.bindMemory(to: UInt8.self).baseAddress)
                stream.next_out = target.bindMemory(to: UInt8.self).baseAddress
                var status = Z_OK
                while status == Z_OK {
                    // zlib counts in 32 bits.
                    stream.avail_in = UInt32(min(packed.count - Int(stream.total_in), 1 << 30))
                    stream.avail_out = UInt32(min(size - Int(stream.total_out), 1 << 30))
                    status = inflate(&stream, Z_NO_FLUSH)
                }
                return status
            }
        }
        guard status == Z_STREAM_END, stream.total_out == size else { throw broken }
        return content
    }

    /// Finds the number of entries of the directory, and its place.
    private func directory() throws -> (count: Int, start: Int) {
        // A comment of up to 64 KB may follow the end record.
        for place in stride(from: data.count - 22, through: max(0, data.count - 22 - 0xFFFF), by: -1)
        where try number(place, 4) == 0x0605_4b50 && number(place + 20, 2) == data.count - place - 22 {
            guard place >= 20, try number(place - 20, 4) == 0x0706_4b50 else {
                return try (number(place + 10, 2), number(place + 16, 4))
            }
            let wide = try number(place - 12, 8)
            guard try number(wide, 4) == 0x0606_4b50 else {
                throw Problem.damaged("no directory where it should be")
            }
            return try (number(wide + 32, 8), number(wide + 48, 8))
        }
        throw Problem.cutShort
    }

    /// Replaces numbers that do not fit into 32 bits by those of an entry's zip64 field.
    /// - Parameter fields: in the field's order: size, size in the file, place of the local header.
    private func widen(_ fields: inout [Int], _ start: Int, _ length: Int) throws {
        var place = start
        while place + 4 <= start + length {
            let isWide = try number(place, 2) == 1
            var next = place + 4
            for index in fields.indices where isWide && fields[index] == 0xFFFF_FFFF {
                fields[index] = try number(next, 8)
                next += 8
            }
            place += try 4 + number(place + 2, 2)
        }
    }

    /// Reads a little-endian number. A number beyond the size of any file is an error.
    private func number(_ place: Int, _ count: Int) throws -> Int {
        let value = try bytes(place, count).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard value < 1 << 48 else { throw Problem.damaged("an impossible number at byte \(place)") }
        return Int(value)
    }

    private func bytes(_ place: Int, _ count: Int) throws -> Data {
        guard place >= 0, count <= data.count - place else {
            throw Problem.damaged("an entry reaches beyond its end")
        }
        return data[place..<place + count]
    }
}
