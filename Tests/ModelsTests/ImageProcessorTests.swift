import Foundation
import TestSupport
import Testing

@testable import Models

/// The settings of preprocessing, as several versions of transformers write them.
@Suite struct ImageProcessorTests {
    private func read(_ preprocessor: String?, processor: String? = nil) throws -> ImageProcessor {
        let folder = try TemporaryFolder()
        for (name, text) in [("preprocessor_config.json", preprocessor), ("processor_config.json", processor)] {
            try text.map { try Data($0.utf8).write(to: folder.url.appendingPathComponent(name)) }
        }
        return try ImageProcessor(folder: ModelFolder(folder.url))
    }

    @Test func defaultsAreTransformers() throws {
        let processor = try read(#"{"return_tensors": null, "do_pad": false, "data_format": "channels_first"}"#)
        #expect(processor.size == 224 && processor.normalization == .clip)
    }

    @Test func sizesAreNumbersOrObjects() throws {
        #expect(try read(#"{"size": 28, "crop_size": {"height": 28, "width": 28}}"#).size == 28)
        #expect(try read(#"{"size": {"shortest_edge": 28, "height": null}, "crop_size": 28}"#).size == 28)
        // As DINOv2's.
        let other = try read(#"{"size": {"shortest_edge": 256}, "image_processor_type": "BitImageProcessor"}"#)
        #expect(other.size == 256 && other.cropSize == 224)
    }

    /// transformers 5 prefers its own file, if that has such a part.
    @Test func processorConfigComesFirst() throws {
        let own = #"{"image_processor": {"size": 28, "crop_size": 28, "image_mean": [0.5, 0.25, 0]}, "processor_class": "CLIPProcessor"}"#
        for other in [nil, "{}"] {
            let processor = try read(other, processor: own)
            #expect(processor.size == 28 && processor.normalization.mean == [0.5, 0.25, 0])
            #expect(processor.file.lastPathComponent == "processor_config.json")
        }
        #expect(try read("{}", processor: #"{"processor_class": "CLIPProcessor"}"#).file.lastPathComponent == "preprocessor_config.json")
    }

    @Test(arguments: [
        (#"{"do_resize": false}"#, "do_resize false"), (#"{"do_center_crop": false}"#, "do_center_crop false"),
        (#"{"do_rescale": null}"#, "do_rescale null"), (#"{"do_normalize": false}"#, "do_normalize false"),
        (#"{"resample": 2}"#, "resample 2"), (#"{"rescale_factor": 0.0078125}"#, "rescale_factor 0.0078125"),
        (#"{"size": {"height": 224, "width": 224}}"#, "size {"), (#"{"size": {"shortest_edge": 224, "longest_edge": 300}}"#, "size {"),
        (#"{"crop_size": {"height": 224, "width": 200}}"#, "crop_size {"), (#"{"size": 0.5}"#, "size 0.5"),
        (#"{"size": null}"#, "size null"),
        (#"{"size": 200}"#, "a crop_size (224) above the size (200)"), (#"{"size": 9000, "crop_size": 9000}"#, "size 9000"),
        (#"{"image_mean": 0.5}"#, "image_mean 0.5"), (#"{"image_mean": [0.5, 0.5]}"#, "image_mean [0.5, 0.5]"),
        (#"{"image_std": [0.5, 0.5, "x"]}"#, "image_std [0.5, 0.5, \"x\"]"),
        (#"{"image_std": [0.5, 0.5, 0]}"#, "image_std must be above zero"),
        (#"{"image_std": [0.5, 0.5, 1e300]}"#, "image_std [0.5"),
        (#"{"image_processor_type": "ViTImageProcessor"}"#, "image_processor_type \"ViTImageProcessor\""),
        (#"{"do_pad": true}"#, "do_pad true"), ("[]", "not valid JSON, or not an object"),
    ]) func otherStepsAreRefused(config: String, part: String) throws {
        let error = try #require(throws: ModelError.self) { try read(config) }
        #expect(error.description.contains("/preprocessor_config.json: \(part)"), "\(error)")
    }
}
