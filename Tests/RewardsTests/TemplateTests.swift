import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

/// The templates of examples/plugins: each is copied out of the repository, by hand and, under another name, by
/// `dag-reward new`, built as its README says, run as a user would, in a worker process, and compared with the
/// same score computed here. A template whose toolchain is not installed is reported as skipped.
@Suite struct TemplateTests {
    @Test(.programs("cc", "make")) func c() throws {
        try Template.build("c", ["make"], product: "libbrightness.so") { library in
            try Template.expect(library) { picture in picture.values.reduce(0, +) / Double(picture.values.count) / 255 }
        }
    }

    /// Nothing is left of the template's name, of the repository's layout or of what was built there.
    @Test(arguments: [
        "c": "brightness", "cpp": "Colourfulness|libcolourf|\"colourf|colourfulness.cpp", "go": "[Ss]ymmetry",
        "python": "sharpness\"|my_reward", "rust": "Detail|libdetail|\"detail", "swift": "Roughness|roughness\"",
    ]) func newRewards(language: String, names: String) throws {
        let traces = try Regex(names + "|\\.\\./\\.\\.|/path/to/dag|Copy this|examples/")
        try withFolder { temporary in
            func new(_ name: String) throws -> Outcome {
                try Shell.run(["dag-reward", "new", name, "--language", language], in: temporary)
            }
            // Names that are words of the template's comments.
            for name in ["soft_glow", "noise", "image", "drop"] {
                let made = try new(name)
                #expect(made.status == 0 && made.output.contains("dag-reward check ./"), "\(made.output)")
                let folder = temporary.appendingPathComponent(name)
                let paths = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
                #expect(paths.contains("README.md") && !paths.contains { $0.hasSuffix(".so") || $0.contains(traces) })
                for path in paths {
                    guard let text = try? String(contentsOf: folder.appendingPathComponent(path), encoding: .utf8) else { continue }
                    if let trace = text.firstMatch(of: traces) { Issue.record("\(path): \(trace.0)") }
                }
            }
            // What is there stays, if only a link to nowhere.
            let link = temporary.appendingPathComponent("link")
            try FileManager.default.createSymbolicLink(at: link, withDestinationURL: temporary.appendingPathComponent("nowhere"))
            for name in ["soft_glow", "link"] {
                let second = try new(name)
                #expect(second.status == 1 && second.output.contains("\(name) is there already"), "\(second.output)")
            }
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link.path).hasSuffix("nowhere"))
            #expect(try new("Soft-Glow").status == 2)
            // Of another type, of the language, and of another file.
            for taken in ["cpp": ["moments"], "go": ["sample"], "rust": ["batch"], "swift": ["any", "plugin"]][language, default: []] {
                let refused = try new(taken)
                #expect(refused.status == 1 && refused.output.contains("choose another name than \(taken)"), "\(refused.output)")
                #expect(!FileManager.default.fileExists(atPath: temporary.appendingPathComponent(taken).path))
            }
        }
    }

    @Test func theTemplateInCIsShort() throws {
        let source = try String(contentsOf: Template.folder.appendingPathComponent("c/brightness.c"), encoding: .utf8)
        #expect(source.split(separator: "\n", omittingEmptySubsequences: false).count < 40)
    }

    @Test(.slow, .programs("g++", "make")) func cpp() throws {
        let fault = ("Moments rg, yb;", "Moments rg, yb; if (n == 1) throw std::runtime_error(\"seeded\");")
        try Template.build("cpp", ["make"], product: "libcolourfulness.so") { library in
            try Template.expect(library, "crop=1", Self.colourfulness)
            // Of 9 rows and 12 columns, half: 2 rows and 2 columns go on either side.
            try Template.expect(library, "crop=0.5") { Self.colourfulness($0.cropped(rows: 2, columns: 2)) }
            #expect(Template.error(library, "crop=2") == "reward soft_glow cannot be made: crop must be above 0 and at most 1")
            #expect(Template.error(library, "crop=1x") == "reward soft_glow cannot be made: crop=1x is not a number")
        }
        try Template.build("cpp", ["make"], product: "libcolourfulness.so", replacing: fault) { library in
            #expect(Template.error(library) == "reward colourfulness failed on samples 1 to 3: seeded")
        }
    }

    @Test(.slow, .programs("cargo")) func rust() throws {
        let (command, product) = (["cargo", "build", "--release", "--offline", "--quiet"], "target/release/libdetail.so")
        let fault = ("let picture = batch.picture(n);", "let picture = batch.picture(n); if n == 1 { panic!(\"seeded {n}\"); }")
        try Template.build("rust", command, product: product) { library in
            for bins in [64, 7] { try Template.expect(library, "bins=\(bins)") { Self.entropy($0, bins: bins) } }
            #expect(Template.error(library, "bins=1") == "reward soft_glow cannot be made: bins=1 is not a whole number from 2 to 256")
        }
        try Template.build("rust", command, product: product, replacing: fault) { library in
            #expect(Template.error(library) == "reward detail cannot score sample 2: panic: seeded 1")
        }
    }

    @Test(.programs("go", "make")) func go() throws {
        let fault = ("half := picture.Width / 2", "half := picture.Width / 2; if sample.Prompt == \"fault\" { panic(\"seeded\") }")
        try Template.build("go", ["make"], product: "libsymmetry.so") { library in
            try Template.expect(library, "contrast=2", Self.symmetry)
            #expect(Template.error(library, "contrast=0") == "reward soft_glow cannot be made: contrast=0 is not a number from 1 to 100")
        }
        try Template.build("go", ["make"], product: "libsymmetry.so", replacing: fault) { library in
            try Template.expect(library, "contrast=2", Self.symmetry)
            #expect(
                Template.error(library)
                    == "reward symmetry cannot score sample 1: internal error (status 5); one message for the 3 that failed in this call: panic: seeded"
            )
        }
    }

    @Test(.slow, .programs("swift")) func swift() throws {
        let (command, product) = (["swift", "build", "-c", "release"], ".build/release/libroughness.so")
        let fault = ("var sum = 0.0", "var sum = 0.0\nif sample.prompt == \"fault\" { throw RewardFailure.unreachable(\"seeded\") }")
        try Template.build("swift", command, product: product) { library in
            for threshold in [0, 0.25] {
                try Template.expect(library, "threshold=\(threshold)") { Self.roughness($0, threshold: threshold) }
            }
            #expect(try RewardSpecification(library).open().description.objectives.map(\.direction) == [.minimize])
            #expect(
                Template.error(library, "threshold=-1") == "reward soft_glow cannot be made: threshold=-1 is not a number from 0 to 1")
        }
        try Template.build("swift", command, product: product, replacing: fault) { library in
            #expect(
                Template.error(library)
                    == "reward roughness cannot score sample 1: a file or service could not be reached; one message for the 3 that failed in this call: seeded"
            )
        }
    }

    @Test(.slow, .python) func python() throws {
        let python = "python=\(TestSupport.python)"
        try Template.build("python", ["true"], product: "my_reward.py", settings: ",\(python)") { file in
            try Template.expect(file, "\(python),limit=10") { Self.sharpness($0) / 10 }
            try Template.expect(file, python) { min(1, Self.sharpness($0) / 0.05) }
            let text = Template.error(file, "\(python),limit=0")
            #expect(text.hasPrefix("reward soft_glow cannot be made: ValueError: limit=0.0 is not above 0"), "\(text)")
        }
    }

    /// Hasler and Suesstrunk's M, from its definition, over 100.
    private static func colourfulness(_ picture: Picture) -> Double {
        let (rg, yb) = (picture.pixels.map { $0[0] - $0[1] }, picture.pixels.map { ($0[0] + $0[1]) / 2 - $0[2] })
        return ((variance(rg) + variance(yb)).squareRoot() + 0.3 * (pow(mean(rg), 2) + pow(mean(yb), 2)).squareRoot()) / 100
    }

    private static func entropy(_ picture: Picture, bins: Int) -> Double {
        var histogram: [Int: Double] = [:]
        for pixel in picture.pixels {
            histogram[Int(299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]) / 1000 * bins / 256, default: 0] += 1
        }
        let count = Double(picture.pixels.count)
        return histogram.values.reduce(0) { $0 - $1 / count * log2($1 / count) } / log2(Double(bins))
    }

    private static func symmetry(_ picture: Picture) -> Double {
        var sum = 0.0
        for y in 0..<picture.height {
            for x in 0..<picture.width {
                for channel in 0..<3 { sum += abs(picture[y, x, channel] - picture[y, picture.width - 1 - x, channel]) }
            }
        }
        return max(0, 1 - 2 * sum / 255 / Double(picture.values.count))
    }

    private static func roughness(_ picture: Picture, threshold: Double) -> Double {
        var differences: [Double] = []
        for y in 0..<picture.height {
            for x in 0..<picture.width {
                if x > 0 { differences.append(abs(picture.grey(y, x) - picture.grey(y, x - 1))) }
                if y > 0 { differences.append(abs(picture.grey(y, x) - picture.grey(y - 1, x))) }
            }
        }
        return mean(differences.map { $0 > threshold ? $0 : 0 })
    }

    /// The variance of the Laplacian; beyond the edge the picture goes on as at the edge.
    private static func sharpness(_ picture: Picture) -> Double {
        func grey(_ y: Int, _ x: Int) -> Double { picture.grey(min(max(y, 0), picture.height - 1), min(max(x, 0), picture.width - 1)) }
        return variance(
            (0..<picture.height).flatMap { y in
                (0..<picture.width).map { x in grey(y - 1, x) + grey(y + 1, x) + grey(y, x - 1) + grey(y, x + 1) - 4 * grey(y, x) }
            })
    }

    private static func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    private static func variance(_ values: [Double]) -> Double { mean(values.map { pow($0 - mean(values), 2) }) }
}

/// A picture as numbers from 0 to 255.
private struct Picture {
    let height: Int
    let width: Int
    let values: [Double]

    init(height: Int, width: Int, _ value: (Int, Int, Int) -> Int) {
        self.height = height
        self.width = width
        values = RewardFixture.picture(height: height, width: width, value).map(Double.init)
    }

    subscript(y: Int, x: Int, channel: Int) -> Double { values[(y * width + x) * 3 + channel] }

    var pixels: [[Double]] { stride(from: 0, to: values.count, by: 3).map { Array(values[$0..<$0 + 3]) } }

    /// Luma, 0 to 1.
    func grey(_ y: Int, _ x: Int) -> Double { (0.299 * self[y, x, 0] + 0.587 * self[y, x, 1] + 0.114 * self[y, x, 2]) / 255 }

    func cropped(rows: Int, columns: Int) -> Picture {
        Picture(height: height - 2 * rows, width: width - 2 * columns) { y, x, channel in Int(self[y + rows, x + columns, channel]) }
    }
}

private enum Template {
    static let folder = repository.appendingPathComponent("examples/plugins")

    /// Makes a reward out of a template, builds it, and hands over what came out: by `dag-reward new`, under another
    /// name, and then it passes `dag-reward check` without a warning; or by copying it out of the repository, and
    /// then its source is changed.
    /// - Parameter settings: those that the reward needs, with a comma before.
    static func build(
        _ language: String, _ command: [String], product: String, replacing edit: (old: String, new: String)? = nil,
        settings: String = "", _ body: (String) throws -> Void
    ) throws {
        try withFolder { temporary in
            let copy = temporary.appendingPathComponent("mine")
            var (product, include): (String, [String: String]) = (product, [:])
            if let edit {
                try FileManager.default.copyItem(at: folder.appendingPathComponent(language), to: copy)
                // Build products in the repository are not copied.
                for built in [".build", "target", product] { try? FileManager.default.removeItem(at: copy.appendingPathComponent(built)) }
                include = ["DAG_INCLUDE": repository.appendingPathComponent("include").path]
                try replace(edit.old, by: edit.new, in: copy)
            } else {
                product = product.replacing(/lib\w+\.so/, with: "libsoft_glow.so").replacing("my_reward", with: "soft_glow_reward")
                let new = try Shell.run(["dag-reward", "new", "soft_glow", "--language", language, "--folder", copy.path], in: temporary)
                try #require(new.status == 0, "\(new.output)")
            }
            let built = try Shell.run(command, in: copy, environment: include)
            try #require(built.status == 0, "\(built.output)")
            let path = copy.appendingPathComponent(product).path
            if product.hasSuffix(".so") {
                let gate = try Shell.run(["scripts/abi_gate.sh", "--exports", path], in: repository)
                #expect(gate.status == 0, "\(gate.output)")
            }
            if edit == nil {
                let check = try Shell.run(["dag-reward", "check", path + settings], in: temporary)
                #expect(check.status == 0 && !check.output.contains("WARN"), "\(check.output)")
                let info = try Shell.run(["dag-reward", "info", path + settings], in: temporary)
                #expect(info.output.hasPrefix("soft_glow 1.0.0: ") && info.output.contains("\n  soft_glow  "), "\(info.output)")
            }
            try body(path)
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
    private static let pictures: [Picture] = [0, 1, 2].map { kind in
        Picture(height: 9, width: 12) { y, x, channel in
            let noise = ((x + 1) * 7919 + (y + 1) * 104_729 + (channel + 1) * 1_299_709) / 13 % 256
            return [noise, 10 * x + 5 * y + noise / 16, [200, 40, 90][channel]][kind]
        }
    }

    private static func batch(prompt: String = "") throws -> RewardBatch {
        try RewardFixture.batch(
            pictures.map { $0.values.map { UInt8($0) } }, height: 9, width: 12, prompts: pictures.map { _ in Prompt(prompt) })
    }

    /// The reward's scores are those of `score` to within 1e-5 of the larger of 1 and the score, and it
    /// passes the trainer's own check.
    static func expect(_ library: String, _ settings: String = "", _ score: (Picture) -> Double) throws {
        let reward = try RewardSpecification(library + (settings.isEmpty ? "" : ",\(settings)")).load()
        let expected = pictures.map(score)
        #expect(Set(expected).count > 1, "the pictures do not tell right from wrong")
        let scores = try reward.score(batch())
        #expect(scores.failures.isEmpty)
        for (value, expected) in zip(scores.values, expected) {
            #expect(abs(Double(value) - expected) <= 1e-5 * max(1, abs(expected)), "\(reward.name) \(settings)")
        }
        try reward.selfCheck(images: batch().images)
        for (height, width) in [(1, 1), (1, 5), (5, 1), (2, 3)] {
            let pixels = [UInt8](repeating: 7, count: height * width * 3)
            try reward.selfCheck(images: ImageBatch(pixels: pixels, count: 1, height: height, width: width))
        }
    }

    /// The error when the images are scored with the prompt "fault".
    static func error(_ library: String, _ settings: String = "") -> String {
        errorMessage { try RewardEvaluator(plugins: [library + (settings.isEmpty ? "" : ",\(settings)")]).score(batch(prompt: "fault")) }
    }
}
