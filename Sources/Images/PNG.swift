import CPNG
import Foundation

/// PNG files, through libpng's simplified interface.
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
        let temporary = path + ".\(UUID().uuidString).tmp"
        let status = batch.withUnsafeBytes { bytes in
            png_image_write_to_file(&image, temporary, 0, bytes.baseAddress! + index * batch.bytesPerImage, 0, nil)
        }
        guard status != 0 else {
            throw ImageError("cannot write \(path): \(message(of: image))")
        }
        guard rename(temporary, path) == 0 else {
            let reason = String(cString: strerror(errno))
            unlink(temporary)
            throw ImageError("cannot write \(path): \(reason)")
        }
    }

    /// Reads a PNG of any kind as 8-bit sRGB `[height, width, 3]`. Transparent pixels become white.
    /// - Throws: `ImageError` if the file is missing or not a PNG.
    package static func read(_ path: String) throws -> (pixels: [UInt8], height: Int, width: Int) {
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        guard png_image_begin_read_from_file(&image, path) != 0 else {
            throw ImageError("cannot read \(path): \(message(of: image))")
        }
        image.format = rgb
        let height = Int(image.height)
        let width = Int(image.width)
        var white = png_color(red: 255, green: 255, blue: 255)
        var pixels = [UInt8](repeating: 0, count: height * width * 3)
        guard png_image_finish_read(&image, &white, &pixels, 0, nil) != 0 else {
            throw ImageError("cannot read \(path): \(message(of: image))")
        }
        return (pixels, height, width)
    }

    private static let rgb = png_uint_32(PNG_FORMAT_FLAG_COLOR)

    private static func message(of image: png_image) -> String {
        withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
