import Foundation
import Testing

@testable import DAGCore

/// The templates of examples/plugins: each is copied out of the repository, built as its README says, loaded, and compared with the
/// same score computed here. A template whose toolchain is not installed is reported as skipped.
@Suite struct TemplateTests {
    @Test(.enabled(if: Shell.finds("cc") && Shell.finds("make"))) func c() throws {
        let library = try Template.build("c", ["make"], product: "libbrightness.so")
        try Template.expect(library) { picture in picture.values.reduce(0, +) / Double(picture.values.count) / 255 }
    }

    @Test func readmeShowsTheTemplateInC() throws {
        let readme = try String(contentsOf: RewardFixture.root.appendingPathComponent("README.md"), encoding: .utf8)
        let source = try String(contentsOf: Template.folder.appendingPathComponent("c/brightness.c"), encoding: .utf8)
        #expect(readme.contains("```c\n\(source)```"), "README.md and examples/plugins/c/brightness.c have come apart")
        #expect(source.split(separator: "\n", omittingEmptySubsequences: false).count <= 40)
    }

    @Test(.enabled(if: Shell.finds("g++") && Shell.finds("make"))) func cpp() throws {
        let library = try Template.build("cpp", ["make"], product: "libcolourfulness.so")
        try Template.expect(library) { Self.colourfulness($0) }
        // Of 9 rows and 12 columns, half: 2 rows and 2 columns go on either side.
        try Template.expect(library, options: ["crop": "0.5"]) { Self.colourfulness($0.cropped(rows: 2, columns: 2)) }
        try Template.expectError(library, ["crop": "2"], "crop must be above 0 and at most 1")
        try Template.expectError(library, ["crop": "1x"], "crop=1x is not a number")

        let throwing = try Template.build(
            "cpp", ["make"], product: "libcolourfulness.so", replacing: "Moments rg, yb;",
            by: "Moments rg, yb; if (n == 1) throw std::runtime_error(\"seeded\");")
        #expect(try Template.scoringError(throwing) == "reward colourfulness failed on samples 1 to 3: seeded")
    }

    @Test(.enabled(if: Shell.finds("cargo"))) func rust() throws {
        let command = ["cargo", "build", "--release", "--offline", "--quiet"]
        let library = try Template.build("rust", command, product: "target/release/libdetail.so")
        for bins in [64, 7] {
            try Template.expect(library, options: ["bins": "\(bins)"]) { picture in
                var histogram: [Int: Double] = [:]
                for pixel in picture.pixels {
                    histogram[Int(299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]) / 1000 * bins / 256, default: 0] += 1
                }
                let count = Double(picture.pixels.count)
                return histogram.values.reduce(0) { $0 - $1 / count * log2($1 / count) } / log2(Double(bins))
            }
        }
        try Template.expectError(library, ["bins": "1"], "bins=1 is not a whole number from 2 to 256")

        let panicking = try Template.build(
            "rust", command, product: "target/release/libdetail.so", replacing: "let picture = batch.picture(n);",
            by: "let picture = batch.picture(n); if n == 1 { panic!(\"seeded {n}\"); }")
        #expect(try Template.scoringError(panicking) == "reward detail cannot score sample 2: panic: seeded 1")
    }

    /// Built once, with a panic that only a prompt sets off: a process has to make do with one Go runtime.
    @Test(.enabled(if: Shell.finds("go") && Shell.finds("make"))) func go() throws {
        let library = try Template.build(
            "go", ["make"], product: "libsymmetry.so", replacing: "half := picture.Width / 2",
            by: "half := picture.Width / 2; if sample.Prompt == \"panic\" { panic(\"seeded\") }")
        try Template.expect(library) { picture in
            var sum = 0.0
            for y in 0..<picture.height {
                for x in 0..<picture.width {
                    for channel in 0..<3 { sum += abs(picture[y, x, channel] - picture[y, picture.width - 1 - x, channel]) }
                }
            }
            return max(0, 1 - 2 * sum / 255 / Double(picture.values.count))
        }
        try Template.expectError(library, ["contrast": "0"], "contrast=0 is not a number from 1 to 100")
        #expect(try Template.scoringError(library, prompt: "panic") == "reward symmetry cannot score sample 1: panic: seeded")
    }

    @Test(.enabled(if: Shell.finds("swift"))) func swift() throws {
        let command = ["swift", "build", "-c", "release"]
        let library = try Template.build("swift", command, product: ".build/release/libroughness.so")
        for threshold in [0, 0.25] {
            try Template.expect(library, options: ["threshold": "\(threshold)"]) { picture in
                var (sum, pairs) = (0.0, 0.0)
                func compare(_ one: Double, _ other: Double) {
                    pairs += 1
                    if abs(one - other) > threshold { sum += abs(one - other) }
                }
                for y in 0..<picture.height {
                    for x in 0..<picture.width {
                        if x > 0 { compare(picture.grey(y, x), picture.grey(y, x - 1)) }
                        if y > 0 { compare(picture.grey(y, x), picture.grey(y - 1, x)) }
                    }
                }
                return sum / pairs
            }
        }
        #expect(library.objectives == [RewardObjective("roughness", .minimize, detail: "0 to 1; a plain picture has 0")])
        try Template.expectError(library, ["threshold": "-1"], "threshold=-1 is not a number from 0 to 1")

        let throwing = try Template.build(
            "swift", command, product: ".build/release/libroughness.so", replacing: "var sum = 0.0",
            by: "var sum = 0.0\nif sample.prompt == \"throw\" { throw RewardFailure.unreachable(\"seeded\") }")
        #expect(try Template.scoringError(throwing, prompt: "throw") == "reward roughness cannot score sample 1: seeded")
    }

    /// Hasler and Suesstrunk's M, from its definition, over 100.
    private static func colourfulness(_ picture: Template.Picture) -> Double {
        let rg = picture.pixels.map { $0[0] - $0[1] }
        let yb = picture.pixels.map { ($0[0] + $0[1]) / 2 - $0[2] }
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
        func variance(_ values: [Double]) -> Double { mean(values.map { pow($0 - mean(values), 2) }) }
        return ((variance(rg) + variance(yb)).squareRoot() + 0.3 * (pow(mean(rg), 2) + pow(mean(yb), 2)).squareRoot()) / 100
    }
}

private enum Template {
    static let folder = RewardFixture.root.appendingPathComponent("examples/plugins")

    /// Copies a template out of the repository, changes its source if asked to, builds it, and opens what came out.
    static func build(
        _ language: String, _ command: [String], product: String, replacing old: String = "", by new: String = ""
    ) throws -> RewardLibrary {
        try RewardFixture.withFolder { temporary in
            let copy = temporary.appendingPathComponent("mine")
            try FileManager.default.copyItem(at: folder.appendingPathComponent(language), to: copy)
            // What was built in the repository stays there.
            for built in [".build", "target", product] { try? FileManager.default.removeItem(at: copy.appendingPathComponent(built)) }
            if !old.isEmpty { try replace(old, by: new, in: copy) }
            let include = ["DAG_INCLUDE": RewardFixture.root.appendingPathComponent("include").path]
            let (status, output) = try Shell.run(command, in: copy, environment: include)
            try #require(status == 0, "\(output)")
            let path = copy.appendingPathComponent(product).path
            let gate = try Shell.run(["scripts/abi_gate.sh", "--exports", path], in: RewardFixture.root)
            #expect(gate.status == 0, "\(gate.output)")
            return try RewardLibrary(path: path)
        }
    }

    /// Exactly one of the files under `folder` has the text.
    private static func replace(_ old: String, by new: String, in folder: URL) throws {
        let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?.compactMap { $0 as? URL } ?? []
        let found = files.filter { (try? String(contentsOf: $0, encoding: .utf8))?.contains(old) == true }
        try #require(found.count == 1, "\(found.count) files have `\(old)`")
        try String(contentsOf: found[0], encoding: .utf8).replacingOccurrences(of: old, with: new)
            .write(to: found[0], atomically: true, encoding: .utf8)
    }

    /// Three pictures of 9 x 12: noise, a noisy slope, and a plain one.
    static let pictures: [Picture] = [0, 1, 2].map { kind in
        Picture(height: 9, width: 12) { y, x, channel in
            let noise = ((x + 1) * 7919 + (y + 1) * 104_729 + (channel + 1) * 1_299_709) / 13 % 256
            return [noise, 10 * x + 5 * y + noise / 16, [200, 40, 90][channel]][kind]
        }
    }

    static func batch(prompt: String = "") throws -> RewardBatch {
        try RewardFixture.batch(
            pictures.map { $0.values.map { UInt8($0) } }, height: 9, width: 12, prompts: pictures.map { _ in prompt })
    }

    /// The plugin's scores are those of `score` to within 1e-5 of the larger of 1 and the score, and it passes the trainer's own check.
    static func expect(_ library: RewardLibrary, options: [String: String] = [:], _ score: (Picture) -> Double) throws {
        let reward = try RewardPlugin(library, options: options)
        let expected = pictures.map(score)
        #expect(Set(expected).count > 1, "the pictures do not tell right from wrong")
        for (value, expected) in zip(try reward.score(batch()).values, expected) {
            #expect(abs(Double(value) - expected) <= 1e-5 * max(1, abs(expected)), "\(library.name) \(options)")
        }
        try reward.selfCheck(images: batch().images)
        for (height, width) in [(1, 1), (1, 5), (5, 1), (2, 3)] {
            let pixels = [UInt8](repeating: 7, count: height * width * 3)
            try reward.selfCheck(images: ImageBatch(pixels: pixels, count: 1, height: height, width: width))
        }
    }

    static func expectError(_ library: RewardLibrary, _ options: [String: String], _ reason: String) throws {
        let text = errorMessage { try RewardPlugin(library, options: options) }
        #expect(text == "reward \(library.name) cannot be made: \(reason)")
    }

    /// What scoring the three pictures throws.
    static func scoringError(_ library: RewardLibrary, prompt: String = "") throws -> String {
        let (reward, batch) = (try RewardPlugin(library), try batch(prompt: prompt))
        return errorMessage { try reward.score(batch) }
    }

    /// A picture as numbers from 0 to 255.
    struct Picture: Sendable {
        let height: Int
        let width: Int
        let values: [Double]

        init(height: Int, width: Int, _ value: (Int, Int, Int) -> Int) {
            (self.height, self.width) = (height, width)
            values = RewardFixture.picture(height: height, width: width, value).map(Double.init)
        }

        subscript(y: Int, x: Int, channel: Int) -> Double { values[(y * width + x) * 3 + channel] }

        var pixels: [[Double]] { stride(from: 0, to: values.count, by: 3).map { Array(values[$0..<$0 + 3]) } }

        /// Luma, 0 to 1.
        func grey(_ y: Int, _ x: Int) -> Double {
            (0.299 * self[y, x, 0] + 0.587 * self[y, x, 1] + 0.114 * self[y, x, 2]) / 255
        }

        func cropped(rows: Int, columns: Int) -> Picture {
            Picture(height: height - 2 * rows, width: width - 2 * columns) { y, x, channel in
                Int(self[y + rows, x + columns, channel])
            }
        }
    }
}
