import Foundation

/// What a file is, by its first bytes, where it is not what its name says.
package enum FileKind {
    private static let kinds: [(start: [UInt8], kind: String)] = [
        (Array("version https://git-lfs".utf8), "a git-LFS pointer, not the file itself; run git lfs pull, or download it again"),
        (Array("<!doctype".utf8), "an HTML page, not the file itself; download it again"),
        (Array("<html".utf8), "an HTML page, not the file itself; download it again"),
        (Array("<?xml".utf8), "an XML page, not the file itself; download it again"),
        ([0x1F, 0x8B], "compressed by gzip; unpack it first"),
        (Array("BZh".utf8), "compressed by bzip2; unpack it first"),
        ([0xFD] + Array("7zXZ".utf8), "compressed by xz; unpack it first"),
        ([0x28, 0xB5, 0x2F, 0xFD], "compressed by zstd; unpack it first"),
        (Array("7z".utf8) + [0xBC, 0xAF], "a 7-Zip archive; unpack it first"),
        (Array("Rar!".utf8), "a RAR archive; unpack it first"),
        ([0x89] + Array("HDF".utf8), "an HDF5 file, as Keras saves; save it as safetensors"),
        (Array("GGUF".utf8), "a GGUF file; use the safetensors file that it was made of"),
        ([0x93] + Array("NUMPY".utf8), "an array of numpy; save it as safetensors"),
    ]

    /// Returns what the file is, and the remedy, if it is one of the things that get into the place of models:
    /// pointers and error pages of a download, archives, other formats.
    /// - Parameter expectsText: whether the file should be JSON or other text.
    package static func foreign(_ data: Data, expectsText: Bool = false) -> String? {
        if data.isEmpty { return "empty; download it again" }
        let head = Data(data.prefix(512))
        // Signatures are compared in lower case: HTML is written either way.
        func lower(_ byte: UInt8) -> UInt8 { 0x41...0x5A ~= byte ? byte + 32 : byte }
        let text = head.drop { [0x20, 0x09, 0x0A, 0x0D].contains($0) }.map(lower)
        if let (_, kind) = kinds.first(where: { text.starts(with: $0.start.map(lower)) }) { return kind }
        if head.count > 262, head[257..<262].elementsEqual("ustar".utf8) { return "a tar archive; unpack it first" }
        if expectsText {
            return head.starts(with: ZipArchive.signature) ? "a zip archive; unpack it first" : nil
        }
        return text.starts(with: "{\"".utf8) ? "JSON text, not tensors; download the file again" : nil
    }
}
