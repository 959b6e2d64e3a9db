import Foundation
import Support
import TestSupport
import Testing

@testable import CFunctionReward
@testable import Images
@testable import Rewards

@Suite struct CFunctionTests {
    private static let source = """
        #include <stdint.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        double mean(const uint8_t *pixels, int width, int height) {
            double sum = 0;
            for (int i = 0; i < 3 * width * height; i++) sum += pixels[i];
            return sum / (3 * width * height);
        }
        float everything(const unsigned char *pixels, uint16_t width, size_t height, double channels, int64_t stride, float size, int8_t minus,
                         const char *text, void *nothing) {
            return pixels[0] + 10 * width + 100 * height + 1000 * channels + 10000 * stride + 0.5f * size + minus + strlen(text) + (nothing != 0);
        }
        int gray_at_0(const uint8_t *gray) { return gray[0]; }
        unsigned long long large(uint64_t seed) { return seed; }
        struct counter { int calls; };
        struct counter *counter_new(int start) {
            if (start < 0) return NULL;
            struct counter *made = malloc(sizeof *made);
            made->calls = start;
            return made;
        }
        int counter_check(struct counter *counter) { return counter->calls == 7 ? 0 : -1; }
        _Bool counter_add(struct counter *counter, const char *prompt) { return (counter->calls += strlen(prompt)) > 9; }
        int counter_value(const struct counter *counter) { return counter->calls; }
        int fill(uint8_t *buffer, size_t buffer_size) { memset(buffer, 1, buffer_size); return (int)buffer_size; }
        int invert(unsigned char *pixels, int size) {
            for (int i = 0; i < size; i++) pixels[i] = 255 - pixels[i];
            return pixels[0];
        }
        unsigned flags(unsigned flags) { return flags; }
        unsigned long long wide(unsigned long long number) { return number >> 60; }
        int mark(char *buffer, unsigned long id) { return id == 1 ? buffer[0] = 7 : 0; }
        int first(const char *buffer) { return buffer[0]; }
        int shout(char *prompt) { return prompt[0] = '!'; }
        double not_a_number(void) { return 0.0 / 0.0; }
        int large_status(void) { return 16777217; }
        static int going_on;
        int overlaps(void) {
            int others = __atomic_fetch_add(&going_on, 1, __ATOMIC_SEQ_CST);
            usleep(1000);
            __atomic_fetch_sub(&going_on, 1, __ATOMIC_SEQ_CST);
            return others;
        }
        int crash(void) { return *(volatile int *)0; }
        """

    private static let library = Result {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("dag-c-\(getpid())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appendingPathComponent("functions.c").path
        try source.write(toFile: file, atomically: true, encoding: .utf8)
        let output = folder.appendingPathComponent("libfunctions.so.2.1").path
        try compile(["-shared", "-fPIC", "-w", "-o", output, file])
        return output
    }

    private func reward(_ settings: String) throws -> RewardEvaluator {
        let specification = try RewardSpecification("c:\(Self.library.get()),\(settings)")
        return try RewardEvaluator([(specification, specification.load(opener: openLibrary))])
    }

    private static let batch = Result {
        try RewardFixture.batch([[UInt8](repeating: 9, count: 60)], height: 4, width: 5, prompts: ["four"])
    }

    private static let programs: [(settings: String, expected: Float)] = [
        ("score=double mean(const uint8_t *pixels, int width, int height)", 9),
        ("score=double mean(unsigned char*pixels,int32_t width,int height)", 9),
        // 9 + 50 + 400 + 3000 + 150000 + 30 - 5 + 4
        (
            "score=float everything(const unsigned char *pixels, uint16_t width, size_t height, double channels, int64_t stride, float size, "
                + "int8_t minus = -5, const char *prompt, void *nothing = NULL)", 153_488
        ),
        ("score=int gray_at_0(const uint8_t *gray)", 9), ("score=unsigned long long large(uint64_t seed)", 1),
        (
            "setup=struct counter *counter = counter_new(int start = 7); int 0 = counter_check(struct counter *counter),"
                + "score=_Bool more = counter_add(struct counter *counter, const char *prompt); int counter_value(const struct counter *counter)",
            11
        ),
        (
            "setup=void *counter = counter_new(int start = 3),score=bool score = counter_add(void *counter, const char *text = \"a, b = c; d)\"); "
                + "int counter_value(void *counter)", 1
        ),
        ("score=int fill(uint8_t *buffer, size_t buffer_size)", 65656),
        ("score=unsigned flags(unsigned flags = 0x1F)", 31),
        ("score=unsigned long long wide(unsigned long long n = 0xF000000000000000)", 15),
        ("score=int 0x1f = flags(unsigned flags = 31); int gray_at_0(const uint8_t *gray)", 9),
        // Memory that is not const may be written to, and later calls for the same image see it.
        ("score=int invert(unsigned char *pixels, int size); double mean(const uint8_t *pixels, int width, int height)", 246),
        ("score=int shout(char *prompt)", 33),
        // A result of the setup is not the score, even under that name.
        ("setup=int score = large_status(),score=int gray_at_0(const uint8_t *gray)", 9),
        ("score=int 16777217 = large_status(); int gray_at_0(const uint8_t *gray)", 9),
    ]

    @Test(arguments: programs) func functionsAreCalledByTheirPrototypes(settings: String, expected: Float) throws {
        #expect(try reward(settings).score(Self.batch.get()).reward == [expected])
        let batch = try Self.batch.get()
        #expect(try reward(settings + ",isolation=none").score(batch).reward == [expected])
        let isUnchanged = batch.images.withUnsafeBytes { $0.allSatisfy { $0 == 9 } } && batch.prompts == ["four"]
        #expect(isUnchanged)
    }

    /// Metadata arrives as it was written, in a worker and in the process.
    @Test(arguments: ["", ",isolation=none"]) func metadataArrives(isolation: String) throws {
        let specification = try RewardSpecification("c:libc.so.6,score=size_t strlen(const char *metadata)" + isolation)
        let evaluator = try RewardEvaluator([(specification, specification.load(opener: openLibrary))])
        let long = #"{"n":"\#(String(repeating: "x", count: 60_000))"}"#
        let prompts = ["", Prompt("a", metadata: #"{"ä":"\u0000"}"#), Prompt("a", metadata: long)]
        #expect(try evaluator.score(RewardFixture.batch(count: 3, prompts: prompts)).reward == [2, 15, 60_008])
    }

    /// Memory is clean again for the next image.
    @Test func picturesDoNotShareWhatIsWritten() throws {
        let batch = try RewardFixture.batch(count: 3)
        #expect(
            try reward("score=int mark(char *buffer, unsigned long id); int first(const char *buffer)").score(batch).reward == [7, 0, 0])
        #expect(try reward("score=int invert(unsigned char *pixels, int size)").score(batch).reward == [255, 254, 253])
    }

    /// The error about a prototype that cannot be called shows what may be written.
    @Test(arguments: [
        "double mean(const uint8_t *image, int width, int height)", "double mean(int pixels)", "double mean(uint8_t *width)",
        "mean(int width)",
        "double mean(const uint8_t *, int)", "double mean", "void mean(int width)", "int flags(unsigned flags = 1.5)",
        "int flags(unsigned flags = 10u)",
        "int mean(float4 width)", "", "double mean(struct picture pixels)",
    ])
    func refusalsShowWhatMayBeWritten(prototype: String) throws {
        let text = errorMessage { try reward("score=\(prototype)") }
        #expect(text.contains("the words are *pixels") && text.contains("the types are void, float"), "\(text)")
        #expect(text.components(separatedBy: "the words are").count == 2)
    }

    /// The page for users has every word, and the program of the test below.
    @Test func theVocabularyIsDocumented() throws {
        let page = try String(contentsOf: repository.appendingPathComponent("docs/reward-plugins.md"), encoding: .utf8)
        for word in CPrograms.vocabulary {
            #expect(page.contains("\n| `\(word.isPointer ? "*" : "")\(word.name)` |"), "\(word.name)")
        }
        #expect(page.contains("'\(Self.reader)'"))
    }

    private static let mistakes: [(settings: String, part: String)] = [
        ("weight=1", "score= is missing"), ("score=double sharpness(const uint8_t *pixels)", "no function sharpness"),
        ("score=double mean(const uint8_t *image, int width, int height)", "`image` is not known; the words are *pixels"),
        ("score=double mean(int pixels, int width, int height)", "is a pointer"),
        ("score=double mean(const uint8_t *width, int width, int height)", "is a number"),
        ("score=double mean(u8 *pixels, int width, f64 height)", "`f64` is unknown"),
        ("score=double mean(const uint8_t *, int, int)", "the name says what is passed"), ("score=mean(int width)", "expected a type"),
        ("score=void mean(const uint8_t *pixels, int width, int height)", "returns no number"),
        ("score=struct counter *counter_new(int start = 3)", "returns no number"), ("score=double mean", "expected `(`"),
        ("score=int counter_value(void *counter)", "`counter` is not known"),
        ("setup=void *c = counter_new(int start = -1),score=int counter_value(void *c)", "counter_new returned NULL"),
        (
            "setup=void *c = counter_new(int start = 1); int 0 = counter_check(void *c),score=int counter_value(void *c)",
            "returned -1 and not 0"
        ),
        ("score=int 16777216 = large_status(); int gray_at_0(const uint8_t *gray)", "returned 16777217 and not 16777216"),
        ("score=int counter_new(int start = 1.5)", "not a whole number"),
        ("score=int counter_new(int start = 1e400)", "inf is not a whole number"),
        ("score=int counter_new(int start = 2147483648)", "2147483648 is more than its type holds"),
        ("score=int counter_new(uint8_t start = 256)", "256 is more than its type holds"),
        ("score=int counter_new(float start = 1e39)", "1e+39 is more than its type holds"),
        ("score=int counter_new(double start = 1e400)", "inf is more than its type holds"),
        ("symbol=mean", "no option symbol; it knows score, setup"),
        ("score=double not_a_number(void)", "cannot score sample 1: nan as score"), ("score=int crash(void)", "SIGSEGV"),
    ]

    @Test(arguments: mistakes) func mistakesAreExplained(settings: String, part: String) throws {
        let text = errorMessage { try reward(settings).score(Self.batch.get()) }
        #expect(text.hasPrefix("reward functions") && text.contains(part) && !text.contains("\n"), "\(text)")
    }

    /// One thread at a time calls a library, also through different rewards.
    @Test func callsOfALibraryNeverOverlap() throws {
        let rewards = try (0..<4).map { _ in try reward("isolation=none,score=int overlaps(void)") }
        let batch = try Self.batch.get()
        let scores = concurrently(16) { try? rewards[$0 % 4].score(batch).reward }
        #expect(scores.allSatisfy { $0 == [0] })
    }

    @Test func librariesAreNamed() throws {
        try withFolder { folder in
            let copy = folder.appendingPathComponent("libfunctions.so.2.1").path
            try FileManager.default.copyItem(atPath: Self.library.get(), toPath: copy)
            let settings = "score=int gray_at_0(const uint8_t *gray)"
            #expect(try RewardEvaluator(plugins: ["c:\(copy),\(settings)"]).fingerprint == reward(settings).fingerprint, "wherever it lies")
        }
        let made = try RewardSpecification("c:\(Self.library.get())").open().description
        #expect(made.name == "functions" && made.version == "2.1")
        #expect(errorMessage { try RewardEvaluator(plugins: ["c:libnowhere.so"]) }.contains("libnowhere.so cannot be loaded"))
        #expect(errorMessage { try RewardEvaluator(plugins: ["c:"]) }.contains("names no library"))
        // zlib is installed wherever libpng is.
        let checksum = try RewardEvaluator(plugins: [
            "c:libz.so.1,score=unsigned long adler32(unsigned long start = 1, const uint8_t *pixels, unsigned int size)"
        ])
        // 1 + 60 * 9, and the sum of 1 + 9 i for i from 1 to 60.
        #expect(try checksum.score(Self.batch.get()).reward == [Float(16530 * 65536 + 541)])
    }

    private static let tesseract = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"].map {
        "\($0)/libtesseract.so.5"
    }
    .first(where: FileManager.default.fileExists(atPath:))

    private static let reader =
        "c:libtesseract.so.5,"
        + #"setup=void *api = TessBaseAPICreate(); int 0 = TessBaseAPIInit3(void *api, const char *path = NULL, const char *language = "eng"),"#
        + "score=void TessBaseAPISetImage(void *api, const unsigned char *pixels, int width, int height, int channels, int stride); "
        + "int 0 = TessBaseAPIRecognize(void *api, void *monitor = NULL); int TessBaseAPIMeanTextConf(void *api)"

    /// A real library: Tesseract's confidence in the text that an image contains.
    @Test(.enabled(if: tesseract != nil, "needs libtesseract5 and tesseract-ocr-eng, which scripts/setup.sh --python installs"))
    func textInAPicture() throws {
        let evaluator = try RewardEvaluator(plugins: [Self.reader])
        let pictures = try ["words", "lines"].map { try ImageFile.read(repository.path + "/Tests/Goldens/rewards/\($0).png")[0] }
        let scores = try evaluator.score(RewardFixture.batch(pictures, height: 96, width: 256)).reward
        #expect(scores[0] > 80 && scores[1] < 60, "\(scores)")
    }
}
