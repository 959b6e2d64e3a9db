import CZlib
import Foundation

/// The zip archive that torch.save writes. Members are not
/// compressed, so they can be used in place in the mapped file.
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
        /// The number of its bytes.
        let size: Int
        let isCompressed: Bool
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
            let method = try number(place + 10, 2)
            var size = try number(place + 24, 4)
            var header = try number(place + 42, 4)
            try widen(&size, &header, place + 46 + lengths.name, lengths.extra)
            members[name] = Member(checksum: UInt32(try number(place + 16, 4)), header: header, size: size, isCompressed: method != 0)
            place += 46 + lengths.name + lengths.extra + lengths.comment
        }
    }

    /// Names of the members.
    var names: some Sequence<String> { members.keys }

    /// Returns the place of a member's bytes in the file.
    /// - Throws: `Problem` if there is no such member or its checksum is wrong.
    func range(of name: String) throws -> Range<Int> {
        guard let member = members[name] else { throw Problem.damaged("it has no \(name)") }
        guard !member.isCompressed else {
            throw Problem.foreign("a compressed archive (\(name)); load it in PyTorch and torch.save it again, or zip it with -0")
        }
        guard try number(member.header, 4) == 0x0403_4b50 else {
            throw Problem.damaged("\(name) is not where it should be")
        }
        let start = try member.header + 30 + number(member.header + 26, 2) + number(member.header + 28, 2)
        // The checksum is zero if torch.save was told to leave it out
        // (`torch.serialization.set_crc32_options`).
        let checksum = try bytes(start, member.size).withUnsafeBytes {
            crc32_z(0, $0.bindMemory(to: UInt8.self).baseAddress, $0.count)
        }
        guard member.checksum == 0 || UInt(member.checksum) == checksum else {
            throw Problem.damaged("\(name) has another checksum")
        }
        return start..<start + member.size
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
    private func widen(_ size: inout Int, _ header: inout Int, _ start: Int, _ length: Int) throws {
        var place = start
        while place + 4 <= start + length {
            let kind = try number(place, 2)
            let fieldSize = try number(place + 2, 2)
            if kind == 1 {
                var next = place + 4
                // The size, then the compressed size, which is the same.
                if size == 0xFFFF_FFFF {
                    size = try number(next, 8)
                    next += 16
                }
                if header == 0xFFFF_FFFF { header = try number(next, 8) }
            }
            place += 4 + fieldSize
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
