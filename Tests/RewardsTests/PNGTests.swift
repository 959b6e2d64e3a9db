import Foundation
import TestSupport
import Testing

@testable import Images
@testable import Rewards

@Suite struct PNGTests {
    @Test func readsWhatItWroteAndLeavesNothingElse() throws {
        try withFolder { folder in
            let path = folder.appendingPathComponent("picture.png").path
            let pixels = (0..<5 * 7 * 3).map { UInt8($0 * 37 & 255) }
            try PNG.write([UInt8](repeating: 9, count: 3), height: 1, width: 1, to: path)
            try PNG.write(pixels, height: 5, width: 7, to: path)
            #expect(try ImageFile.read(path) == ImageBatch(pixels: pixels, count: 1, height: 5, width: 7))
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["picture.png"])
        }
    }

    @Test func errorsNameTheFile() throws {
        #expect(errorMessage { try ImageFile.read("/nowhere/a.png") }.hasPrefix("cannot read /nowhere/a.png: "))
        let unwritable = errorMessage { try PNG.write([1, 2, 3], height: 1, width: 1, to: "/nowhere/a.png") }
        #expect(unwritable.hasPrefix("cannot write /nowhere/a.png: "))
        #expect(errorMessage { try PNG.write([1, 2], height: 1, width: 1, to: "/tmp/a.png") }.contains("2 bytes"))
        try withFolder { folder in
            let url = folder.appendingPathComponent("text.png")
            try Data("no picture".utf8).write(to: url)
            #expect(errorMessage { try ImageFile.read(url.path) }.hasPrefix("cannot read \(url.path): "))
        }
    }

    @Test func gridRepeatsPixelsAndPadsWithWhite() throws {
        // Three pictures of 1 x 2 pixels, values 1 to 6.
        let batch = try ImageBatch(pixels: (1...6).flatMap { [UInt8](repeating: $0, count: 3) }, count: 3, height: 1, width: 2)
        let grid = try ImageGrid.compose(batch, columns: 2, padding: 1, scale: 2)
        #expect(grid.height == 7 && grid.width == 11)
        let red = stride(from: 0, to: grid.bytesPerImage, by: 3).map { grid[0][$0] }
        let blank = [UInt8](repeating: 255, count: 11)
        let first: [UInt8] = [255, 1, 1, 2, 2, 255, 3, 3, 4, 4, 255]
        let second: [UInt8] = [255, 5, 5, 6, 6, 255, 255, 255, 255, 255, 255]
        #expect(red == blank + first + first + blank + second + second + blank)
        #expect(try ImageGrid.compose(batch, columns: 9, padding: 0)[0] == (0..<3).flatMap { batch[$0] })
        #expect(errorMessage { try ImageGrid.compose(batch, columns: 0) }.contains("0 columns"))
    }
}
