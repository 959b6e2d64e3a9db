import Foundation
import TestSupport
import Testing

@testable import Images

/// Files of every kind, with the pixels that Pillow's `convert("RGB")` has, or the reason why they are refused.
@Suite struct ImageFileTests {
    private struct Golden: Decodable {
        let file: Data
        let height: Int?
        let width: Int?
        let rgb: Data?
        let message: String?
    }

    @Test func readsWhatPillowReads() throws {
        let data = try Data(contentsOf: repository.appendingPathComponent("Tests/Goldens/images/goldens.json"))
        let goldens = try JSONDecoder().decode([String: Golden].self, from: data)
        #expect(goldens.count > 80)
        try withFolder { folder in
            // The ending says nothing.
            let file = folder.appendingPathComponent("image.png")
            for (name, golden) in goldens {
                try golden.file.write(to: file)
                if let rgb = golden.rgb, let height = golden.height, let width = golden.width {
                    let right = try ImageBatch(pixels: [UInt8](rgb), count: 1, height: height, width: width)
                    #expect(try ImageFile.read(file.path) == right, "\(name)")
                } else {
                    let text = errorMessage { try ImageFile.read(file.path) }
                    #expect(text.hasPrefix("cannot read \(file.path): "), "\(name): \(text)")
                    #expect(try text.contains(#require(golden.message)), "\(name): \(text)")
                }
            }
        }
    }
}
