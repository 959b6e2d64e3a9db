import CImageFiles
import Foundation

/// Reading of image files, PNG or JPEG, which are told apart by their first bytes.
package enum ImageFile {
    /// Reads a file as one image: the bytes that Pillow's `Image.open(file).convert("RGB")` has. Transparency is
    /// dropped, and no gamma or colour profile is applied.
    /// - Throws: `ImageError` that names the file.
    package static func read(_ path: String) throws -> ImageBatch {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw ImageError("cannot read \(path): no such file")
        }
        guard !isFolder.boolValue else { throw ImageError("cannot read \(path): it is a folder") }
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw ImageError("cannot read \(path): no permission")
        }
        guard let start = try file.read(upToCount: 64), !start.isEmpty else {
            throw ImageError("cannot read \(path): it is empty")
        }
        let decode: (UnsafePointer<UInt8>, Int, inout Int32, inout Int32, inout [CChar]) -> UnsafeMutablePointer<UInt8>?
        switch kind(of: start) {
        case "PNG": decode = { dag_png_decode($0, $1, &$2, &$3, &$4) }
        case "JPEG": decode = { dag_jpeg_decode($0, $1, &$2, &$3, &$4) }
        case let other?: throw ImageError("cannot read \(path): it is of the kind \(other); save it as PNG or JPEG")
        case nil: throw ImageError("cannot read \(path): neither a PNG nor a JPEG file")
        }
        let bytes = [UInt8](start) + (try file.readToEnd() ?? Data())
        var height: Int32 = 0
        var width: Int32 = 0
        var message = [CChar](repeating: 0, count: 256)
        guard let pixels = decode(bytes, bytes.count, &height, &width, &message) else {
            let reason = String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            throw ImageError("cannot read \(path): \(reason)")
        }
        defer { free(pixels) }
        let copy = Array(UnsafeBufferPointer(start: pixels, count: Int(height) * Int(width) * 3))
        return try ImageBatch(pixels: copy, count: 1, height: Int(height), width: Int(width))
    }

    /// The kind of a file by its first bytes, each taken as the Unicode scalar of that number.
    private static func kind(of start: Data) -> String? {
        let start = start.map { Unicode.Scalar($0) }
        func has(_ text: String, at offset: Int = 0) -> Bool { start.dropFirst(offset).starts(with: text.unicodeScalars) }
        if has("RIFF"), has("WEBP", at: 8) { return "WebP" }
        if has("ftyp", at: 4) { return has("avif", at: 8) ? "AVIF" : "HEIF" }
        let kinds = [
            ("\u{89}PNG\r\n\u{1A}\n", "PNG"), ("\u{FF}\u{D8}\u{FF}", "JPEG"), ("GIF8", "GIF"), ("BM", "BMP"), ("II*\0", "TIFF"),
            ("MM\0*", "TIFF"), ("\0\0\0\u{C}jP  ", "JPEG 2000"), ("\u{FF}O\u{FF}Q", "JPEG 2000"), ("\u{FF}\n", "JPEG XL"),
            ("\0\0\0\u{C}JXL ", "JPEG XL"), ("8BPS", "Photoshop"), ("<svg", "SVG"), ("<!DOCTYPE", "HTML"), ("<html", "HTML"),
            ("version https://git-lfs", "git-LFS pointer"),
        ]
        return kinds.first { has($0.0) }?.1
    }
}
