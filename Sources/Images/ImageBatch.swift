/// One or more images of equal size, 8-bit sRGB.
package struct ImageBatch: @unchecked Sendable, Equatable {
    private enum Storage {
        case owned([UInt8])
        case borrowed(UnsafeRawBufferPointer)
    }

    private let storage: Storage
    /// The number of images.
    package let count: Int
    /// The height of an image in pixels.
    package let height: Int
    /// The width of an image in pixels.
    package let width: Int

    /// Takes over pixels `[count, height, width, 3]`.
    /// - Throws: `ImageError` unless there are `count * height
    ///   * width * 3` bytes, and none of the three is below 1.
    package init(pixels: [UInt8], count: Int, height: Int, width: Int) throws {
        try self.init(.owned(pixels), bytes: pixels.count, count: count, height: height, width: width)
    }

    /// Borrows pixels in memory that the caller keeps alive and unchanged for as long as the batch is used.
    /// - Throws: `ImageError` unless there are `count * height
    ///   * width * 3` bytes, and none of the three is below 1.
    package init(borrowing bytes: UnsafeRawBufferPointer, count: Int, height: Int, width: Int) throws {
        try self.init(.borrowed(bytes), bytes: bytes.count, count: count, height: height, width: width)
    }

    private init(_ storage: Storage, bytes: Int, count: Int, height: Int, width: Int) throws {
        guard count > 0, height > 0, width > 0, bytes == count * height * width * 3 else {
            throw ImageError("\(bytes) bytes are not \(count) RGB images of \(height) x \(width) pixels")
        }
        self.storage = storage
        self.count = count
        self.height = height
        self.width = width
    }

    /// The number of bytes of one image.
    package var bytesPerImage: Int { height * width * 3 }

    /// Lends the pixels, `[count, height, width, 3]`, row-major: red, green, blue in 0...255.
    package func withUnsafeBytes<Result, Failure>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        switch storage {
        case .owned(let pixels):
            // Array.withUnsafeBytes throws `any Error`; this keeps the caller's type.
            try pixels.withUnsafeBufferPointer { buffer throws(Failure) in try body(UnsafeRawBufferPointer(buffer)) }
        case .borrowed(let bytes): try body(bytes)
        }
    }

    /// A copy of the pixels of image `index`, `[height, width, 3]`.
    package subscript(index: Int) -> [UInt8] {
        withUnsafeBytes { Array($0[index * bytesPerImage..<(index + 1) * bytesPerImage]) }
    }

    /// Copies the images at some places into a new batch.
    /// - Throws: `ImageError` if there are no places.
    package func picking(_ places: some Collection<Int>) throws -> ImageBatch {
        var pixels: [UInt8] = []
        pixels.reserveCapacity(places.count * bytesPerImage)
        withUnsafeBytes { all in
            for place in places { pixels.append(contentsOf: all[place * bytesPerImage..<(place + 1) * bytesPerImage]) }
        }
        return try ImageBatch(pixels: pixels, count: places.count, height: height, width: width)
    }

    /// Compares sizes and pixels.
    package static func == (a: ImageBatch, b: ImageBatch) -> Bool {
        guard a.count == b.count, a.height == b.height, a.width == b.width else { return false }
        return a.withUnsafeBytes { x in b.withUnsafeBytes { y in x.elementsEqual(y) } }
    }
}

/// An image, or a file of one, that cannot be used.
package struct ImageError: Error, CustomStringConvertible {
    /// One line: the image or file, and the problem.
    package let description: String

    init(_ description: String) { self.description = description }
}
