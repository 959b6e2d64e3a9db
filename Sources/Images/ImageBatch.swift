/// Pictures of one size, 8-bit sRGB.
public struct ImageBatch: @unchecked Sendable, Equatable {
    private enum Storage {
        case owned([UInt8])
        case borrowed(UnsafeRawBufferPointer)
    }

    private let storage: Storage
    /// Number of pictures.
    public let count: Int
    /// Rows of a picture.
    public let height: Int
    /// Pixels of a row.
    public let width: Int

    /// Throws `ImageError` unless there are `count * height * width * 3` bytes, and none of the three is below 1.
    public init(pixels: [UInt8], count: Int, height: Int, width: Int) throws {
        try self.init(.owned(pixels), bytes: pixels.count, count: count, height: height, width: width)
    }

    /// Pictures in memory of somebody else, who keeps it unchanged as long as they are used. Throws as above.
    public init(borrowing bytes: UnsafeRawBufferPointer, count: Int, height: Int, width: Int) throws {
        try self.init(.borrowed(bytes), bytes: bytes.count, count: count, height: height, width: width)
    }

    private init(_ storage: Storage, bytes: Int, count: Int, height: Int, width: Int) throws {
        guard count > 0, height > 0, width > 0, bytes == count * height * width * 3 else {
            throw ImageError("\(bytes) bytes are not \(count) RGB pictures of \(height) x \(width) pixels")
        }
        (self.storage, self.count, self.height, self.width) = (storage, count, height, width)
    }

    /// Bytes of one picture.
    public var bytesPerImage: Int { height * width * 3 }

    /// Lends the pixels, `[count, height, width, 3]`, row-major: red, green, blue in 0...255.
    public func withUnsafeBytes<Result, Failure>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
        switch storage {
        case .owned(let pixels):
            // Array.withUnsafeBytes throws `any Error`; this keeps the caller's type.
            try pixels.withUnsafeBufferPointer { buffer throws(Failure) in try body(UnsafeRawBufferPointer(buffer)) }
        case .borrowed(let bytes): try body(bytes)
        }
    }

    /// The pixels of picture `index`, `[height, width, 3]`.
    public subscript(index: Int) -> [UInt8] {
        withUnsafeBytes { Array($0[index * bytesPerImage..<(index + 1) * bytesPerImage]) }
    }

    /// Copies of some pictures, by their places. Throws `ImageError` if there are none.
    public func picking(_ places: some Collection<Int>) throws -> ImageBatch {
        var pixels: [UInt8] = []
        pixels.reserveCapacity(places.count * bytesPerImage)
        withUnsafeBytes { all in
            for place in places { pixels.append(contentsOf: all[place * bytesPerImage..<(place + 1) * bytesPerImage]) }
        }
        return try ImageBatch(pixels: pixels, count: places.count, height: height, width: width)
    }

    /// The same pictures.
    public static func == (a: ImageBatch, b: ImageBatch) -> Bool {
        guard a.count == b.count, a.height == b.height, a.width == b.width else { return false }
        return a.withUnsafeBytes { x in b.withUnsafeBytes { y in x.elementsEqual(y) } }
    }
}

/// What is wrong with a picture or its file, in one line.
public struct ImageError: Error, CustomStringConvertible {
    /// One line: what is wrong.
    public let description: String

    init(_ description: String) { self.description = description }
}
