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

    @Test func aSheetIsTakenApart() throws {
        let batch = try ImageBatch(pixels: (0..<5 * 4 * 3 * 3).map { UInt8($0) }, count: 5, height: 4, width: 3)
        #expect(try ImageGrid.tiles(of: ImageGrid.compose(batch, columns: 2), columns: 2, count: 5) == batch)
        let enlarged = try ImageGrid.tiles(of: ImageGrid.compose(batch, columns: 3, scale: 2), columns: 3, count: 5)
        #expect(enlarged.height == 8 && enlarged.width == 6 && enlarged[4][0] == batch[4][0] && enlarged[4].last == batch[4].last)
        #expect(errorMessage { try ImageGrid.tiles(of: ImageGrid.compose(batch, columns: 2), columns: 4, count: 16) }.contains("no sheet"))
        #expect(errorMessage { try ImageGrid.tiles(of: batch, columns: 0, count: 0) }.contains("no sheet"))
        #expect(errorMessage { try ImageGrid.tiles(of: batch, columns: 1, count: 1) }.contains("no sheet"))
    }

    @Test func reductionKeepsMeansAndProportions() throws {
        // The left half is black, the right one white.
        let row = [UInt8](repeating: 0, count: 6 * 3) + [UInt8](repeating: 255, count: 6 * 3)
        let image = try ImageBatch(pixels: (0..<8).flatMap { _ in row }, count: 1, height: 8, width: 12)
        let small = try image.reduced(toFit: 3)
        #expect(small.height == 2 && small.width == 3)
        #expect(Array(small[0].prefix(9)) == [0, 0, 0, 128, 128, 128, 255, 255, 255])
        #expect(try image.reduced(toFit: 12) == image)
        #expect(try image.reduced(toFit: 1)[0] == [128, 128, 128])
    }

    @Test func jpegIsNear() throws {
        try withFolder { folder in
            // Two smooth pictures, of which the second is written.
            let pixels = (0..<2 * 20 * 30).flatMap { (place: Int) -> [UInt8] in
                [UInt8(place % 30 * 8), UInt8(place / 30 % 20 * 12), place < 600 ? 0 : 200]
            }
            let batch = try ImageBatch(pixels: pixels, count: 2, height: 20, width: 30)
            let file = folder.appendingPathComponent("x.jpg")
            try JPEG.encode(batch, index: 1, quality: 95).write(to: file)
            #expect(try ImageFile.read(file.path).difference(from: batch.picking([1])) < 3)
            let tooWide = try ImageBatch(pixels: [UInt8](repeating: 0, count: 70_000 * 3), count: 1, height: 1, width: 70_000)
            #expect(errorMessage { try JPEG.encode(tooWide, quality: 90) }.contains("Maximum supported image dimension is 65500 pixels"))
        }
    }
}
