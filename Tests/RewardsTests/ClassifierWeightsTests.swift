import Foundation
import TestSupport
import Testing

@testable import Images
@testable import Rewards

/// Errors of `libcifar_classifier.so` about weights and settings that it cannot use.
@Suite struct ClassifierWeightsTests {
    /// The parts of a safetensors file, which tests spoil and join again.
    private struct File {
        var header: [String: [String: Any]]
        var data: Data

        init() throws {
            let bytes = try Data(contentsOf: ClassifierRewardTests.folder.appendingPathComponent("resnet-gray.safetensors"))
            let length = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
            header = try JSONSerialization.jsonObject(with: bytes[8..<(8 + length)]) as? [String: [String: Any]] ?? [:]
            data = bytes.dropFirst(8 + length)
        }

        func bytes() throws -> Data {
            let text = try JSONSerialization.data(withJSONObject: header, options: .sortedKeys)
            return Data((0..<8).map { UInt8(text.count >> (8 * $0) & 255) }) + text + data
        }
    }

    /// Returns the plugin's error for a file of these bytes.
    private static func message(_ bytes: Data) throws -> String {
        try withFolder { folder in
            let path = folder.appendingPathComponent("spoilt.safetensors").path
            try bytes.write(to: URL(fileURLWithPath: path))
            let text = errorMessage { try RewardEvaluator(plugins: ["cifar_classifier,classes=c0,weights=\(path)"]) }
            #expect(text.contains("cifar_classifier") && text.contains("spoilt.safetensors") && !text.contains("\n"), "\(text)")
            return text
        }
    }

    @Test func unspoiltWeightsLoad() throws {
        try withFolder { folder in
            let path = folder.appendingPathComponent("sound.safetensors").path
            try File().bytes().write(to: URL(fileURLWithPath: path))
            _ = try RewardEvaluator(plugins: ["cifar_classifier,classes=c0,weights=\(path)"])
        }
    }

    @Test(arguments: [
        ("layer1.0.bn2.bias", "lacks the tensor layer1.0.bn2.bias"), ("layer2.1.conv2.weight", "lacks the tensor layer2.1.conv2.weight"),
        ("layer2.0.downsample.0.weight", "lacks the tensor layer2.0.downsample.0.weight"), ("fc.bias", "lacks the tensor fc.bias"),
        ("conv1.weight", "lacks the tensor conv1.weight"),
        // Without its first tensor a block does not exist, and the rest of it is left over.
        ("layer2.1.conv1.weight", "have a tensor layer2.1."),
    ])
    func missingTensorsAreNamed(tensor: String, part: String) throws {
        var file = try File()
        file.header[tensor] = nil
        let text = try Self.message(file.bytes())
        #expect(text.contains(part), "\(text)")
    }

    @Test(arguments: [
        ("conv1.weight", [6, 1, 9], "conv1.weight has shape [6, 1, 9] where [any, any, 3, 3] is needed"),
        ("layer1.0.conv2.weight", [6, 54, 1, 1], "layer1.0.conv2.weight has shape [6, 54, 1, 1] where [any, 6, 3, 3] is needed"),
        ("bn1.weight", [3, 2], "bn1.weight has shape [3, 2] where [6] is needed"),
        ("fc.bias", [-5], "fc.bias has shape [?] where [5]"), ("fc.bias", [], "fc.bias has shape [] where [5]"),
        ("fc.weight", [1 << 20, 5], "truncated or damaged at fc.weight"),
    ])
    func wrongShapesAreNamed(tensor: String, shape: [Int], part: String) throws {
        var file = try File()
        file.header[tensor]?["shape"] = shape
        let text = try Self.message(file.bytes())
        #expect(text.contains(part), "\(text)")
    }

    @Test(arguments: ["I64", "BF16"]) func otherTypesAreNamed(type: String) throws {
        var file = try File()
        file.header["fc.weight"]?["dtype"] = type
        let text = try Self.message(file.bytes())
        #expect(text.contains("fc.weight is \(type), neither F32 nor F16"), "\(text)")
    }

    @Test(arguments: [
        ("classes", "c0+c1", "does not name as many classes as fc.weight has"), ("classes", nil, "lacks the names of the classes"),
        ("mean", "0.5 0.5 0.5", "mean is not one number"), ("std", "0", "std is not one number"), ("std", "wide", "std is not one number"),
        ("input_size", "28.5", "input_size is not a whole number"), ("input_size", nil, "state_dict_to_safetensors.py"),
    ])
    func wrongMetadataIsNamed(key: String, value: String?, part: String) throws {
        var file = try File()
        file.header["__metadata__"]?[key] = value
        let text = try Self.message(file.bytes())
        #expect(text.contains(part), "\(text)")
    }

    @Test func brokenFilesAreErrors() throws {
        let file = try File(), whole = try file.bytes()
        #expect(try Self.message(Data()).contains("no safetensors file, or a truncated one"))
        #expect(try Self.message(whole.prefix(300)).contains("no safetensors file, or a truncated one"))
        #expect(try Self.message(whole.dropLast(2)).contains("truncated or damaged at"))
        #expect(try Self.message(Data(repeating: 255, count: 4096)).contains("no safetensors file"))
        #expect(try Self.message(whole.prefix(8) + Data("{\"a\" ".utf8) + whole.dropFirst(13)).contains("broken header"))
        var infinite = file
        infinite.data = Data(repeating: 0x7c, count: file.data.count)
        #expect(try Self.message(infinite.bytes()).contains("numbers that are not finite"))
    }

    @Test(arguments: [
        ("weights=/nowhere/x.safetensors", "weights /nowhere/x.safetensors cannot be read: No such file"),
        ("weights=/", "weights / cannot be read: not a file"), ("weights=", "weights= is empty: name a safetensors file"),
        ("classes=sandal+sandel", "there is no class 'sandel'; these weights know tee+trouser+"), ("classes=", "there is no class ''"),
        ("classes=sanda", "no class 'sanda'"), ("classes=+bag", "no class ''"),
        ("threads=1.5", "threads=1.5 is not a whole number"), ("threads=65", "threads=65 is not a number from 0 to 64"),
    ])
    func wrongSettingsAreErrors(setting: String, part: String) {
        let text = errorMessage { try RewardEvaluator(plugins: ["cifar_classifier,\(setting)"]) }
        #expect(text.contains("cifar_classifier") && text.contains(part), "\(text)")
    }

    /// Other weights at the same path give another fingerprint, so a run is not resumed with them.
    @Test func fingerprintTellsWeightsApart() throws {
        try withFolder { folder in
            let path = folder.appendingPathComponent("weights.safetensors").path
            var file = try File()
            func fingerprint() throws -> String {
                try file.bytes().write(to: URL(fileURLWithPath: path))
                return try RewardEvaluator(plugins: ["cifar_classifier,classes=c0,weights=\(path)"]).fingerprint
            }
            let first = try fingerprint()
            #expect(try fingerprint() == first)
            file.data[file.data.startIndex] ^= 1
            #expect(try fingerprint() != first)
            // Where the file lies, the order of the classes and the number of threads change no score.
            let copy = folder.appendingPathComponent("copy.safetensors").path
            try FileManager.default.copyItem(atPath: path, toPath: copy)
            func fingerprint(_ settings: String) throws -> String {
                try RewardSpecification("cifar_classifier,\(settings)").load().fingerprint
            }
            let usual = try fingerprint("classes=c0+c1,weights=\(path)")
            #expect(try fingerprint("classes=c1+c0,weights=\(copy),threads=2") == usual)
            #expect(usual.hasPrefix("cifar_classifier 1.0.0 weights=") && usual.hasSuffix(" classes=c0+c1"), "\(usual)")
        }
    }
}
