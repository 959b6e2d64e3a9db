import CJPEG
import Foundation

/// Reading of image files, PNG or JPEG, which are told apart by their first bytes.
package enum ImageFile {
    /// Reads a file as one image, 8-bit sRGB.
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
        guard let start = try file.read(upToCount: 3), !start.isEmpty else {
            throw ImageError("cannot read \(path): it is empty")
        }
        if start.elementsEqual([0xff, 0xd8, 0xff]) { return try readJPEG(path) }
        guard start.elementsEqual([0x89, 0x50, 0x4e]) else {
            throw ImageError("cannot read \(path): neither a PNG nor a JPEG file")
        }
        let (pixels, height, width) = try PNG.read(path)
        return try ImageBatch(pixels: pixels, count: 1, height: height, width: width)
    }

    private static func readJPEG(_ path: String) throws -> ImageBatch {
        var height: Int32 = 0
        var width: Int32 = 0
        var message = [CChar](repeating: 0, count: 256)
        guard let pixels = dag_jpeg_read(path, &height, &width, &message) else {
            let reason = String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            throw ImageError("cannot read \(path): \(reason)")
        }
        defer { free(pixels) }
        let bytes = Array(UnsafeBufferPointer(start: pixels, count: Int(height) * Int(width) * 3))
        return try ImageBatch(pixels: bytes, count: 1, height: Int(height), width: Int(width))
    }
}
