import Foundation
import Images

/// Memory that functions may use while they score one image.
final class CScratch {
    private let height, width: Int
    private let gray, buffer, copy: UnsafeMutableRawBufferPointer?

    /// Allocates the memory that the functions have parameters for.
    init(_ images: ImageBatch, for functions: [CFunction]) {
        height = images.height
        width = images.width
        let arguments = functions.flatMap(\.call.arguments)
        func room(_ count: Int, if isNeeded: (CCall.Argument) -> Bool) -> UnsafeMutableRawBufferPointer? {
            arguments.contains(where: isNeeded) ? .allocate(byteCount: count, alignment: 64) : nil
        }
        gray = room(height * width) { $0.source == .name("gray") }
        buffer = room(2 * images.bytesPerImage + 65536) { $0.source == .name("buffer") || $0.source == .name("buffer_size") }
        copy = room(images.bytesPerImage) { $0.source == .name("pixels") && $0.isWritable }
    }

    deinit { for room in [gray, buffer, copy] { room?.deallocate() } }

    /// Fills the memory for an image.
    /// - Returns: the values of the words about its pixels.
    func prepare(_ image: UnsafeRawPointer) -> [String: CValue] {
        if let gray { luma(image.assumingMemoryBound(to: UInt8.self), gray) }
        if let buffer { memset(buffer.baseAddress!, 0, buffer.count) }
        if let copy { copy.baseAddress!.copyMemory(from: image, byteCount: height * width * 3) }
        return [
            "pixels": .pointer(copy?.baseAddress ?? UnsafeMutableRawPointer(mutating: image)), "gray": .pointer(gray?.baseAddress),
            "buffer": .pointer(buffer?.baseAddress), "buffer_size": .integer(Int64(buffer?.count ?? 0)),
        ]
    }

    /// ITU-R 601 luma, as Pillow's conversion to `L`.
    private func luma(_ rgb: UnsafePointer<UInt8>, _ gray: UnsafeMutableRawBufferPointer) {
        for index in gray.indices {
            let red = Int(rgb[3 * index])
            let green = Int(rgb[3 * index + 1])
            let blue = Int(rgb[3 * index + 2])
            gray[index] = UInt8((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)
        }
    }
}
