import Foundation

/// Numbers that bring an image's channels, in [0, 1], to about mean 0 and deviation 1.
package struct ImageNormalization: Equatable, Sendable {
    /// The mean of each channel, which is subtracted, and the standard deviation, which the rest is divided by.
    package let mean, deviation: [Float]

    /// The numbers that CLIP was trained with.
    package static let clip = ImageNormalization(
        mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711])
}

/// The settings of transformers' CLIPImageProcessor or BitImageProcessor, from a model's folder. Values that ask for
/// other steps than these are refused: resize the short side, crop the centre, normalise.
package struct ImageProcessor {
    /// The length to which the short side is resized, in pixels.
    package let size: Int
    /// The height and width of what is cropped, in pixels; at most `size`.
    package let cropSize: Int
    /// The mean and the deviation of the last step.
    package let normalization: ImageNormalization
    /// The file of the settings.
    package let file: URL

    private static let classes = [
        "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPFeatureExtractor", "BitImageProcessor", "BitImageProcessorFast",
    ]
    /// Only these values, which are transformers' defaults: Pillow's bicubic filter is number 3.
    private static let fixed = ReferenceDefaults(
        [:],
        fixed: [
            "do_resize": true, "do_center_crop": true, "do_rescale": true, "do_normalize": true, "resample": 3,
            "rescale_factor": .number(1 / 255),
        ])
    /// Keys that are read below, or that change nothing for images that are RGB already.
    private static let known: Set = [
        "size", "crop_size", "image_mean", "image_std", "image_processor_type", "feature_extractor_type", "processor_class",
        "do_convert_rgb", "data_format", "_valid_processor_keys",
    ]

    /// Reads `image_processor` in processor_config.json, where transformers 5 writes it, or preprocessor_config.json.
    /// - Throws: `ModelError` that names the file and the key.
    package init(folder: ModelFolder) throws {
        let whole = folder.url.appendingPathComponent("processor_config.json")
        let nested = FileManager.default.fileExists(atPath: whole.path) ? try folder.object(whole.lastPathComponent) : [:]
        let object: [String: JSONValue]
        if case .object(let found)? = nested["image_processor"] {
            (file, object) = (whole, found)
        } else {
            file = folder.url.appendingPathComponent("preprocessor_config.json")
            object = try folder.object(file.lastPathComponent)
        }
        let name = file.path
        for key in ["image_processor_type", "feature_extractor_type"] {
            guard let type = object[key], type != .null, !Self.classes.contains(type.text ?? "") else { continue }
            throw ModelError("\(name): \(key) \(type) is not supported (CLIPImageProcessor and BitImageProcessor are)")
        }
        try Self.fixed.validate(name, object)
        for (key, value) in object.sorted(by: { $0.key < $1.key })
        where !Self.known.contains(key) && Self.fixed.fixed[key] == nil && value != .null && value != false {
            throw ModelError("\(name): \(key) \(value) is not supported")
        }
        size = try Self.side(object, "size", ["shortest_edge"], name)
        cropSize = try Self.side(object, "crop_size", ["height", "width"], name)
        guard cropSize <= size else {
            throw ModelError("\(name): a crop_size (\(cropSize)) above the size (\(size)) is not supported")
        }
        normalization = ImageNormalization(
            mean: try Self.channels(object, "image_mean", name) ?? ImageNormalization.clip.mean,
            deviation: try Self.channels(object, "image_std", name) ?? ImageNormalization.clip.deviation)
        guard normalization.deviation.allSatisfy({ $0 > 0 }) else {
            throw ModelError("\(name): image_std must be above zero")
        }
    }

    /// Checks that a model takes what is cropped.
    /// - Parameter configuration: the model's file, for the message.
    /// - Throws: `ModelError`.
    package func validate(imageSize: Int, of configuration: String) throws {
        guard cropSize == imageSize else {
            throw ModelError("\(file.path): makes images of \(cropSize) pixels, image_size of \(configuration) is \(imageSize)")
        }
    }

    /// Reads a number of pixels: by itself, or under each of `names` in an object. Without the key it is 224.
    private static func side(_ object: [String: JSONValue], _ key: String, _ names: Set<String>, _ file: String) throws -> Int {
        let value = object[key] ?? 224
        var sides = [value]
        if case .object(let found) = value {
            let given = found.filter { $0.value != .null }
            sides = Set(given.keys) == names ? Array(given.values) : []
        }
        guard let side = sides.first?.number.flatMap({ Int(exactly: $0) }), sides.allSatisfy({ $0 == sides[0] }), 1...4096 ~= side
        else {
            throw ModelError(
                "\(file): \(key) \(value) is not supported, only one number of pixels, by itself or as "
                    + names.sorted().joined(separator: " and "))
        }
        return side
    }

    /// Reads three numbers; nil without the key.
    private static func channels(_ object: [String: JSONValue], _ key: String, _ file: String) throws -> [Float]? {
        guard let value = object[key] else { return nil }
        var numbers: [Float] = []
        if case .list(let values) = value { numbers = values.compactMap(\.number).map(Float.init) }
        guard numbers.count == 3, numbers.allSatisfy(\.isFinite) else {
            throw ModelError("\(file): \(key) \(value) is not supported, only three numbers")
        }
        return numbers
    }
}
