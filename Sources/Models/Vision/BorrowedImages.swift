import Tensors

/// Images of equal size, uint8 RGB, in memory that is another's: it has to stay as it is while they are used.
package struct BorrowedImages {
    /// The number of images.
    package let count: Int
    /// The height of an image in pixels.
    package let height: Int
    /// The width of an image in pixels.
    package let width: Int
    private let base: UnsafeRawPointer
    private let imageStride, rowStride: Int

    /// Borrows memory.
    /// - Parameters:
    ///   - base: the first byte of the first image.
    ///   - imageStride: the number of bytes from one image to the next.
    ///   - rowStride: the number of bytes from one row to the next.
    package init(base: UnsafeRawPointer, count: Int, height: Int, width: Int, imageStride: Int, rowStride: Int) {
        self.base = base
        self.count = count
        self.height = height
        self.width = width
        self.imageStride = imageStride
        self.rowStride = rowStride
    }

    /// Returns a range of the images.
    package func part(_ range: Range<Int>) -> BorrowedImages {
        BorrowedImages(
            base: base + range.lowerBound * imageStride, count: range.count, height: height, width: width, imageStride: imageStride,
            rowStride: rowStride)
    }

    /// Returns the bytes of row `y` of image `n`, `[width, 3]`.
    func row(_ n: Int, _ y: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + n * imageStride + y * rowStride, count: width * 3)
    }

    /// The images as float32 `[count, 3, height, width]` in [0, 1].
    private var tensor: Tensor {
        var values = [Float](repeating: 0, count: count * 3 * height * width)
        for n in 0..<count {
            for y in 0..<height {
                let row = row(n, y)
                for channel in 0..<3 {
                    let target = ((n * 3 + channel) * height + y) * width
                    for x in 0..<width { values[target + x] = Float(row[x * 3 + channel]) / 255 }
                }
            }
        }
        return Tensor(values, shape: [count, 3, height, width])
    }

    /// Applies HPSv2's preprocessing, float32 `[count, 3, size, size]`.
    ///
    /// Numbers in [0, 1] are resized by torchvision's bicubic filter on tensors (antialiased, neither rounded
    /// nor clamped) so that the *long* side is `size`, padded with black at both ends of the short side, and
    /// normalised by CLIP's mean and deviation. Source: hpsv2's open_clip/transform.py with
    /// `light_augmentation`, which sets `resize_longest_max`.
    package func longSideInput(size: Int) -> Tensor {
        let scale = Double(size) / Double(max(height, width))
        func scaled(_ side: Int) -> Int { max(1, Int((Double(side) * scale).rounded(.toNearestOrEven))) }
        let newHeight = scaled(height)
        let newWidth = scaled(width)
        let fits = newHeight == height && newWidth == width
        let resized = fits ? tensor : tensor.resizeBicubic(height: newHeight, width: newWidth)
        let top = (size - newHeight) / 2
        let left = (size - newWidth) / 2
        let images = resized.pad([left, size - newWidth - left, top, size - newHeight - top])
        let clip = ImageNormalization.clip
        let mean = Tensor(clip.mean, shape: [1, 3, 1, 1])
        return (images - mean) / Tensor(clip.deviation, shape: [1, 3, 1, 1])
    }

    /// Applies CLIP's preprocessing, float32 `[count, 3, crop, crop]`, as clip, open_clip and ImageReward do.
    ///
    /// The short side is resized to `size` by Pillow's bicubic filter, the centre is cropped, and numbers in
    /// [0, 1] are normalised. Up to the last step this equals, to the bit, torchvision's
    /// `Resize(size, BICUBIC), CenterCrop(crop), ToTensor(), Normalize(...)` on a Pillow image.
    /// - Parameters:
    ///   - crop: at most `size`, which it is if not given.
    ///   - normalization: CLIP's mean and deviation if not given.
    ///   - cropOffset: the rounding of half a pixel. torchvision rounds to even; transformers'
    ///     `CLIPProcessor`, which is the same otherwise, rounds `.down`.
    package func clipInput(
        size: Int, crop: Int? = nil, normalization: ImageNormalization = .clip,
        cropOffset: FloatingPointRoundingRule = .toNearestOrEven
    ) -> Tensor {
        let short = min(height, width)
        let crop = crop ?? size
        // The long side is rounded down.
        let newHeight = height == short ? size : height * size / short
        let newWidth = width == short ? size : width * size / short
        let top = Int((Double(newHeight - crop) / 2).rounded(cropOffset))
        let left = Int((Double(newWidth - crop) / 2).rounded(cropOffset))
        let filter = BicubicFilter(from: (height, width), to: (newHeight, newWidth))
        // A byte has 256 values: look their normalised numbers up.
        let table = zip(normalization.mean, normalization.deviation).map { mean, deviation in
            (0...255).map { (Float($0) / 255 - mean) / deviation }
        }
        var values = [Float](repeating: 0, count: count * 3 * crop * crop)
        for n in 0..<count {
            let resized = filter.apply { row(n, $0) }
            for y in 0..<crop {
                for x in 0..<crop {
                    let source = ((top + y) * newWidth + left + x) * 3
                    for channel in 0..<3 {
                        values[((n * 3 + channel) * crop + y) * crop + x] = table[channel][Int(resized[source + channel])]
                    }
                }
            }
        }
        return Tensor(values, shape: [count, 3, crop, crop])
    }

    /// Applies the preprocessing of a model's folder, float32 `[count, 3, cropSize, cropSize]`.
    package func input(_ processor: ImageProcessor) -> Tensor {
        clipInput(
            size: processor.size, crop: processor.cropSize, normalization: processor.normalization, cropOffset: .down)
    }
}
