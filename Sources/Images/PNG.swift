import CPNG
import Foundation

/// Writing of PNG files.
package enum PNG {
    /// Writes RGB pixels `[height, width, 3]`. The file
    /// appears whole or not at all, and replaces an older one.
    /// - Throws: `ImageError` if the number of pixels is wrong or the file cannot be written.
    package static func write(_ pixels: [UInt8], height: Int, width: Int, to path: String) throws {
        try write(ImageBatch(pixels: pixels, count: 1, height: height, width: width), to: path)
    }

    /// Writes image `index` of a batch. The file appears whole or not at all, and replaces an older one.
    /// - Throws: `ImageError` if the file cannot be written.
    package static func write(_ batch: ImageBatch, index: Int = 0, to path: String) throws {
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        image.format = rgb
        image.height = png_uint_32(batch.height)
        image.width = png_uint_32(batch.width)
        let file = URL(fileURLWithPath: path)
        let temporary = file.deletingLastPathComponent().appendingPathComponent(".\(file.lastPathComponent).\(UUID().uuidString).tmp").path
        errno = 0
        let status = batch.withUnsafeBytes { bytes in
            png_image_write_to_file(&image, temporary, 0, bytes.baseAddress! + index * batch.bytesPerImage, 0, nil)
        }
        guard status != 0 else {
            // Of a write that fails libpng says no more than that.
            let reason = errno == 0 ? message(of: image) : String(cString: strerror(errno))
            throw ImageError("cannot write \(path): \(reason)")
        }
        guard rename(temporary, path) == 0 else {
            let reason = String(cString: strerror(errno))
            unlink(temporary)
            throw ImageError("cannot write \(path): \(reason)")
        }
    }

    private static let rgb = png_uint_32(PNG_FORMAT_FLAG_COLOR)

    private static func message(of image: png_image) -> String {
        withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
