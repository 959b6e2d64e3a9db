import CJPEG
import Foundation

/// Picture files, PNG or JPEG, told apart by their first bytes.
public enum ImageFile {
    /// Reads a file as one picture, 8-bit sRGB. Throws `ImageError` that names the file.
    public static func read(_ path: String) throws -> ImageBatch {
        guard let start = FileHandle(forReadingAtPath: path).flatMap({ try? $0.read(upToCount: 3) }) else {
            throw ImageError("cannot read \(path): \(FileManager.default.fileExists(atPath: path) ? "no permission" : "no such file")")
        }
        if start.elementsEqual([0xff, 0xd8, 0xff]) { return try readJPEG(path) }
        guard start.elementsEqual([0x89, 0x50, 0x4e]) else { throw ImageError("cannot read \(path): neither a PNG nor a JPEG file") }
        let (pixels, height, width) = try PNG.read(path)
        return try ImageBatch(pixels: pixels, count: 1, height: height, width: width)
    }

    private static func readJPEG(_ path: String) throws -> ImageBatch {
        var (height, width): (Int32, Int32) = (0, 0)
        var message = [CChar](repeating: 0, count: 256)
        guard let pixels = dag_jpeg_read(path, &height, &width, &message) else {
            throw ImageError(
                "cannot read \(path): \(String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))")
        }
        defer { free(pixels) }
        let bytes = Array(UnsafeBufferPointer(start: pixels, count: Int(height) * Int(width) * 3))
        return try ImageBatch(pixels: bytes, count: 1, height: Int(height), width: Int(width))
    }
}
