/// Pictures of one size, 8-bit sRGB.
public struct ImageBatch: Sendable, Equatable {
    /// `[count, height, width, 3]`, row-major: red, green, blue in 0...255.
    public let pixels: [UInt8]
    /// Number of pictures.
    public let count: Int
    /// Rows of a picture.
    public let height: Int
    /// Pixels of a row.
    public let width: Int

    /// Throws `ImageError` unless there are `count * height * width * 3` bytes, and none of the three is below 1.
    public init(pixels: [UInt8], count: Int, height: Int, width: Int) throws {
        guard count > 0, height > 0, width > 0, pixels.count == count * height * width * 3 else {
            throw ImageError("\(pixels.count) bytes are not \(count) RGB pictures of \(height) x \(width) pixels")
        }
        self.pixels = pixels
        self.count = count
        self.height = height
        self.width = width
    }

    /// Bytes of one picture.
    public var bytesPerImage: Int { height * width * 3 }

    /// The pixels of picture `index`, `[height, width, 3]`.
    public subscript(index: Int) -> [UInt8] {
        Array(pixels[index * bytesPerImage..<(index + 1) * bytesPerImage])
    }
}

/// What is wrong with a picture or its file, in one line.
public struct ImageError: Error, CustomStringConvertible {
    /// One line: what is wrong.
    public let description: String

    init(_ description: String) { self.description = description }
}
