import CImageFiles
import Foundation

/// Writing of JPEG files.
package enum JPEG {
    /// Encodes image `index` of a batch.
    /// - Parameter quality: 1 to 100, as libjpeg counts it.
    /// - Throws: `ImageError` if the image is larger than JPEG allows or memory is out.
    package static func encode(_ batch: ImageBatch, index: Int = 0, quality: Int) throws -> Data {
        var count = 0
        var message = [CChar](repeating: 0, count: 256)
        let bytes = batch.withUnsafeBytes { pixels in
            dag_jpeg_encode(
                pixels.baseAddress! + index * batch.bytesPerImage, Int32(batch.height), Int32(batch.width), Int32(quality), &count,
                &message)
        }
        guard let bytes else {
            let reason = String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            throw ImageError("cannot encode an image as JPEG: \(reason)")
        }
        return Data(bytesNoCopy: bytes, count: count, deallocator: .free)
    }
}
