import CABIFixtures
import CDAGCore
import Foundation
import Support
import TestSupport
import Testing

@testable import CABI

/// The C API as a C program uses it, without the Swift API.
@Suite(.serialized) struct CABITests {
    /// Settings of a run of seconds.
    static func config(_ changes: [String: Any] = [:]) throws -> String {
        let settings: [String: Any] = [
            "model": tinySD, "prompts": "tiny-sd", "epochs": 2, "steps": 3, "sample_batch_size": 4, "batches_per_epoch": 2,
            "train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "beta": 10, "beta_annealing": 0,
            "precision": "fp32", "sample_every": 0, "seed": 5, "device": "cpu",
        ]
        return String(decoding: try JSONSerialization.data(withJSONObject: settings.merging(changes) { $1 }), as: UTF8.self)
    }

    static var lastError: String { String(cString: dag_last_error()) }

    /// The LoRA of a run that nothing happens to.
    static let straight = Result {
        let session = try Session()
        #expect(dag_trainer_start(session.trainer) == DAG_OK && dag_trainer_run(session.trainer) == DAG_OK, "\(lastError)")
        return try session.lora
    }

    /// A trainer with a callback and an observer that share a fixture; destroyed and removed at the end.
    final class Session {
        var trainer: OpaquePointer?
        let fixture: UnsafeMutablePointer<CABIFixtures.fixture>
        let folder: URL
        var lora: Data { get throws { try Data(contentsOf: folder.appendingPathComponent("pytorch_lora_weights.safetensors")) } }

        init(_ changes: [String: Any] = [:], resuming other: Session? = nil, in place: URL? = nil, adding: Bool = true) throws {
            folder = place ?? FileManager.default.temporaryDirectory.appendingPathComponent("dag-cabi-\(UUID())")
            fixture = .allocate(capacity: 1)
            fixture.initialize(to: .init())
            if let other {
                if place == nil { try FileManager.default.copyItem(at: other.folder, to: folder) }
                #expect(dag_trainer_resume(folder.path, nil, &trainer) == DAG_OK, "\(lastError)")
            } else {
                #expect(dag_trainer_create(try config(changes), folder.path, &trainer) == DAG_OK, "\(lastError)")
            }
            fixture.pointee.trainer = trainer
            if adding { #expect(add() == DAG_OK, "\(lastError)") }
            var observer = dag_observer()
            observer.struct_size = UInt32(MemoryLayout<dag_observer>.size)
            observer.context = UnsafeMutableRawPointer(fixture)
            observer.progress = fixture_progress
            observer.log = fixture_log
            observer.step = fixture_step
            #expect(dag_trainer_set_observer(trainer, &observer) == DAG_OK)
        }

        func add(_ name: String = "brightness", settings: String? = nil) -> Int32 {
            name.withCString { name in
                let settings = settings.map { strdup($0) }
                defer { free(settings ?? nil) }
                var callback = dag_callback()
                callback.struct_size = UInt32(MemoryLayout<dag_callback>.size)
                callback.flags = UInt32(DAG_REWARD_DETERMINISTIC)
                callback.name = name
                callback.settings = settings.map { UnsafePointer($0!) }
                callback.context = UnsafeMutableRawPointer(fixture)
                (callback.score, callback.release) = (fixture_score, fixture_release)
                return dag_trainer_add_callback(trainer, &callback)
            }
        }

        var status: dag_status {
            var status = dag_status()
            status.struct_size = UInt32(MemoryLayout<dag_status>.size)
            #expect(dag_trainer_status(trainer, &status) == DAG_OK)
            return status
        }

        deinit {
            dag_trainer_destroy(trainer)
            fixture.deallocate()
            try? FileManager.default.removeItem(at: folder)
        }
    }

    @Test func theLibraryDescribesItself() throws {
        #expect(dag_api_version() == DAG_API_VERSION)
        #expect(String(cString: dag_version()).split(separator: ".").count == 3)
        #expect(String(cString: dag_torch_version()).hasPrefix("2."))
        let defaults = try #require(
            try JSONSerialization.jsonObject(with: Data(String(cString: dag_default_config()).utf8)) as? [String: Any])
        #expect(defaults["beta"] as? Double == 100 && defaults["lora_rank"] as? Int == 4)
    }

    /// A whole run in one call is, to the bit, the same run in epochs, in parts, and stopped and resumed in
    /// another trainer.
    @Test(.slow) func wholeAndPartsAreTheSame() throws {
        let whole = try Session()
        #expect(dag_trainer_start(whole.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(dag_trainer_run(whole.trainer) == DAG_OK, "\(Self.lastError)")
        let lora = try whole.lora
        #expect(whole.status.epoch == 2 && whole.status.step == 4 && whole.fixture.pointee.steps == 4)
        #expect(whole.fixture.pointee.logs >= 4 && whole.fixture.pointee.progress_calls >= 10)
        #expect(whole.fixture.pointee.busy == DAG_BUSY && whole.fixture.pointee.reentered == DAG_BUSY)
        #expect(dag_trainer_run_epoch(whole.trainer) == DAG_ORDER)
        #expect(Self.lastError.contains("all 2 epochs are done"))

        let parts = try Session()
        #expect(dag_trainer_start(parts.trainer) == DAG_OK)
        #expect(dag_trainer_score(parts.trainer) == DAG_ORDER && dag_trainer_update(parts.trainer, nil) == DAG_ORDER)
        // Asked for again while the first are being scored, trajectories stay as they are.
        parts.fixture.pointee.delay = 50_000
        #expect(dag_trainer_roll_out(parts.trainer) == DAG_OK && dag_trainer_roll_out(parts.trainer) == DAG_ORDER)
        #expect(dag_trainer_update(parts.trainer, nil) == DAG_ORDER)
        #expect(dag_trainer_score(parts.trainer) == DAG_OK)
        var done: Int32 = 7
        #expect(dag_trainer_update(parts.trainer, &done) == DAG_OK && done == 0)
        #expect(parts.status.update == 1 && parts.status.step == 1 && parts.status.updates_per_epoch == 2)
        #expect(dag_trainer_save(parts.trainer) == DAG_OK)

        let resumed = try Session(resuming: parts)
        #expect(dag_trainer_start(resumed.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(resumed.status.update == 1)
        #expect(dag_trainer_run(resumed.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(try resumed.lora == lora)

        #expect(dag_trainer_update(parts.trainer, &done) == DAG_OK && done == 1)
        #expect(dag_trainer_run_epoch(parts.trainer) == DAG_OK)
        #expect(try parts.lora == lora)
    }

    @Test func lookingIn() throws {
        let session = try Session(["evaluation_samples": 3])
        var (json, number) = (UnsafePointer<CChar>?.none, 0.0)
        var samples = dag_samples()
        samples.struct_size = UInt32(MemoryLayout<dag_samples>.size)
        #expect(session.status.started == 0 && session.status.epochs == 2 && session.status.height == 0)
        #expect(dag_trainer_metrics(session.trainer, &json) == DAG_ORDER && dag_trainer_samples(session.trainer, &samples) == DAG_ORDER)
        #expect(dag_trainer_start(session.trainer) == DAG_OK)
        #expect(session.status.started == 1 && session.status.height == 32 && session.status.trajectories_per_epoch == 8)
        #expect(dag_trainer_samples(session.trainer, &samples) == DAG_ORDER)
        #expect(dag_trainer_run_epoch(session.trainer) == DAG_OK)

        #expect(dag_trainer_metrics(session.trainer, &json) == DAG_OK)
        let line = try #require(
            try JSONSerialization.jsonObject(with: Data(String(cString: json!).utf8)) as? [String: Any])
        #expect(dag_trainer_metric(session.trainer, "reward/brightness/score", &number) == DAG_OK)
        #expect(line["reward/brightness/score"] as? Double == number && number > 0 && number < 1)
        #expect(dag_trainer_metric(session.trainer, "reward", &number) == DAG_INVALID)
        #expect(Self.lastError.contains("there is no metric 'reward'; there are ") && Self.lastError.contains("reward_mean"))

        // Scores are those of the very images.
        #expect(dag_trainer_samples(session.trainer, &samples) == DAG_OK)
        #expect(samples.count == 8 && samples.height == 32 && samples.objective_count == 1 && samples.epoch == 0)
        #expect(String(cString: samples.objectives[0]!) == "brightness/score")
        var mean = 0.0
        for k in 0..<8 {
            let bytes = UnsafeBufferPointer(start: samples.images + k * 32 * 32 * 3, count: 32 * 32 * 3)
            let brightness = bytes.reduce(0.0) { $0 + Double($1) } / Double(bytes.count) / 255
            #expect(abs(Double(samples.scores[k]) - brightness) < 1e-5 && samples.rewards[k] == samples.scores[k])
            #expect(samples.prompts[k].size == strlen(samples.prompts[k].data) && samples.sample_ids[k] == UInt64(k))
            mean += brightness / 8
        }
        #expect(dag_trainer_metric(session.trainer, "reward_mean", &number) == DAG_OK && abs(number - mean) < 1e-5)

        // An image is a function of prompt, seed and weights.
        var (one, two) = (dag_pictures(), dag_pictures())
        (one.struct_size, two.struct_size) = (UInt32(MemoryLayout<dag_pictures>.size), UInt32(MemoryLayout<dag_pictures>.size))
        let text = strdup("a red boot on a blue background")
        defer { free(text) }
        var (prompts, seeds) = ([UnsafePointer<CChar>?](repeating: UnsafePointer(text), count: 2), [UInt64(7), 8])
        #expect(dag_trainer_sample(session.trainer, &prompts, &seeds, 2, &two) == DAG_OK)
        let second = Data(bytes: two.images + 32 * 32 * 3, count: 32 * 32 * 3)
        seeds = [8]
        #expect(dag_trainer_sample(session.trainer, &prompts, &seeds, 1, &one) == DAG_OK)
        #expect(Data(bytes: one.images, count: 32 * 32 * 3) == second)

        #expect(dag_trainer_evaluate(session.trainer, &json) == DAG_OK)
        #expect(String(cString: json!).contains(#""evaluation_samples":3"#))
        #expect(dag_trainer_config(session.trainer, &json) == DAG_OK)
        #expect(String(cString: json!).contains(#""seed":5"#))
    }

    /// Cancellation by a call of another thread or of a callback, or by the observer's answer or exception:
    /// the call reports it, and a second call goes on to the same weights.
    @Test(.slow, arguments: ["callback", "observer", "exception", "thread"]) func cancelling(by who: String) throws {
        let session = try Session()
        #expect(dag_trainer_start(session.trainer) == DAG_OK)
        let fixture = session.fixture
        switch who {
        case "callback": fixture.pointee.cancels_at = fixture.pointee.calls + 6
        case "thread": #expect(dag_trainer_cancel(session.trainer) == DAG_OK)  // before the call, which then is the next one
        default: (fixture.pointee.stop_at, fixture.pointee.observer_throws) = (3, who == "exception" ? 1 : 0)
        }
        #expect(dag_trainer_run(session.trainer) == DAG_CANCELLED)
        let expected = who == "exception" ? "cancelled by an observer: it threw a C++ exception: enough" : "cancelled"
        #expect(Self.lastError == expected)
        #expect(session.status.epoch < 2)
        #expect(dag_trainer_run(session.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(try session.lora == Self.straight.get())
    }

    /// A cancelled call does not wait for a reward that hangs while it is made or asked.
    @Test(.slow, .timeLimit(.minutes(5))) func cancellingDoesNotWaitForRewards() throws {
        let temporary = try TemporaryFolder()
        let library = try plugin("faulty", in: temporary.url)
        nonisolated(unsafe) var trainer: OpaquePointer?
        func cancelledInASecond(_ call: () -> Int32) {
            Thread.detachNewThread {
                sleep(1)
                dag_trainer_cancel(trainer)
            }
            #expect(call() == DAG_CANCELLED, "\(Self.lastError)")
        }
        for (fault, isCancelled) in [("create_hang", true), ("hang", true), ("hang", false)] {
            let session = try Session(["reward_plugin": ["\(library),fault=\(fault),at=8,timeout=600"]], adding: false)
            trainer = session.trainer
            if fault == "create_hang" {
                cancelledInASecond { dag_trainer_start(session.trainer) }
            } else {
                #expect(dag_trainer_start(session.trainer) == DAG_OK && dag_trainer_run_epoch(session.trainer) == DAG_OK)
                #expect(dag_trainer_roll_out(session.trainer) == DAG_OK)
                if isCancelled {
                    cancelledInASecond { dag_trainer_score(session.trainer) }
                    // The trajectories are kept, and asked about anew.
                    cancelledInASecond { dag_trainer_score(session.trainer) }
                }
            }
            // Nor does the end.
            #expect(dag_trainer_destroy(session.trainer) == DAG_OK)
        }
    }

    @Test(
        .slow,
        arguments: [
            (0, "the service is down"), (1, "it threw a C++ exception: no such model"), (2, "something that is no std::exception"),
            (3, "the service is [31m down"),
        ])
    func failingCallbacks(throwing: Int, message: String) throws {
        let session = try Session()
        session.fixture.pointee.throws = Int32(throwing)
        session.fixture.pointee.fail_at = 1
        #expect(dag_trainer_start(session.trainer) == DAG_FAILED && Self.lastError.contains(message))
        #expect(dag_trainer_start(session.trainer) == DAG_OK)
        session.fixture.pointee.fail_at = session.fixture.pointee.calls + 3
        #expect(dag_trainer_run(session.trainer) == DAG_FAILED)
        #expect(Self.lastError.contains("reward brightness failed on samples 0 to 7: ") && Self.lastError.contains(message))
        #expect(dag_trainer_run(session.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(session.fixture.pointee.released == 0)
    }

    /// The answer of an observer ends the call under way, a request of another thread the first call that it
    /// reaches. A complete call does not report a cancellation.
    @Test(.slow) func whatIsCompleteIsNotCancelled() throws {
        let session = try Session(["sample_every": 1, "epochs": 3])
        func sheet(_ epoch: Int, _ session: Session) -> Bool {
            FileManager.default.fileExists(atPath: session.folder.appendingPathComponent("samples/epoch-\(epoch).png").path)
        }
        #expect(dag_trainer_start(session.trainer) == DAG_OK && dag_trainer_roll_out(session.trainer) == DAG_OK)
        var done: Int32 = 0
        #expect(dag_trainer_score(session.trainer) == DAG_OK && dag_trainer_update(session.trainer, &done) == DAG_OK && done == 0)
        session.fixture.pointee.stop_at = 2
        #expect(dag_trainer_update(session.trainer, &done) == DAG_OK && done == 1)
        // Only the drawing after the epoch was cancelled; it is made up for.
        #expect(session.status.epoch == 1 && !sheet(1, session))
        #expect(dag_trainer_roll_out(session.trainer) == DAG_OK && sheet(1, session))

        // Saving cannot be cancelled, but the next call can.
        #expect(dag_trainer_cancel(session.trainer) == DAG_OK && dag_trainer_save(session.trainer) == DAG_OK)
        #expect(dag_trainer_run_epoch(session.trainer) == DAG_CANCELLED)
        #expect(dag_trainer_run_epoch(session.trainer) == DAG_OK && sheet(2, session))

        // After the last epoch, in this process or in another.
        session.fixture.pointee.stop_at = 6
        #expect(dag_trainer_run(session.trainer) == DAG_CANCELLED && session.status.epoch == 3 && !sheet(3, session))
        let resumed = try Session(resuming: session)
        #expect(dag_trainer_run(session.trainer) == DAG_OK && sheet(3, session))
        #expect(dag_trainer_start(resumed.trainer) == DAG_OK && dag_trainer_run(resumed.trainer) == DAG_OK && sheet(3, resumed))
    }

    /// An epoch that cannot be written has ended all the same, and is written when it can be.
    @Test func anEpochThatCannotBeWritten() throws {
        let session = try Session()
        let checkpoints = session.folder.appendingPathComponent("checkpoints")
        #expect(dag_trainer_start(session.trainer) == DAG_OK && dag_trainer_roll_out(session.trainer) == DAG_OK)
        var done: Int32 = 0
        #expect(dag_trainer_score(session.trainer) == DAG_OK && dag_trainer_update(session.trainer, &done) == DAG_OK && done == 0)
        try FileManager.default.removeItem(at: checkpoints)
        #expect(dag_trainer_update(session.trainer, &done) == DAG_FAILED && done == 1)
        #expect(Self.lastError.contains("cannot be written") && session.status.epoch == 1)
        try FileManager.default.createDirectory(at: checkpoints, withIntermediateDirectories: false)
        #expect(dag_trainer_roll_out(session.trainer) == DAG_OK)
        #expect(try FileManager.default.contentsOfDirectory(atPath: checkpoints.path).count == 1)
    }

    /// A run that is stopped in its first epoch, or before it, can be gone on with in another process.
    @Test(.slow, arguments: [true, false]) func stoppedBeforeTheFirstCheckpoint(starting: Bool) throws {
        let session = try Session(["sample_every": 1])
        if starting {
            session.fixture.pointee.cancels_at = 4  // the last call of the self-checks: the sample sheet is next
            #expect(dag_trainer_start(session.trainer) == DAG_CANCELLED)
        } else {
            #expect(dag_trainer_start(session.trainer) == DAG_OK)
            session.fixture.pointee.stop_at = 1
            #expect(dag_trainer_run_epoch(session.trainer) == DAG_CANCELLED && session.status.update == 1)
        }
        let resumed = try Session(resuming: session)
        #expect(dag_trainer_start(resumed.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(resumed.status.step == (starting ? 0 : 1))
        #expect(dag_trainer_run(resumed.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(try resumed.lora == Self.straight.get())
        // The trainer itself goes on as well.
        if starting { #expect(dag_trainer_start(session.trainer) == DAG_OK, "\(Self.lastError)") }
        #expect(dag_trainer_run(session.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(try session.lora == Self.straight.get())
    }

    /// Settings are named by their keys; text that only looks like a flag of dag-train is left as it is.
    @Test func messagesLeaveTheUsersTextAlone() throws {
        let temporary = try TemporaryFolder()
        let folder = temporary.url.appendingPathComponent("run--seed")
        for (key, value) in [("model", folder.path), ("prompts", folder.path + " --seed.txt")] {
            let session = try Session([key: value])
            #expect(dag_trainer_start(session.trainer) == DAG_INVALID && Self.lastError.contains(value), "\(Self.lastError)")
        }
    }

    /// A folder is one trainer's while that lives, in this process and for others.
    @Test(.slow) func aFolderIsOneTrainers() throws {
        let first = try Session()
        let second = try Session(in: first.folder)
        #expect(dag_trainer_start(first.trainer) == DAG_OK)
        #expect(dag_trainer_start(second.trainer) == DAG_FAILED)
        #expect(Self.lastError.hasPrefix("\(first.folder.path): is in use by another trainer"), "\(Self.lastError)")
        #expect(dag_trainer_run_epoch(first.trainer) == DAG_OK)
        #expect(dag_trainer_destroy(first.trainer) == DAG_OK)
        // A trainer for a new folder does not write over files that have come into it.
        #expect(dag_trainer_start(second.trainer) == DAG_FAILED && Self.lastError.contains("is not empty"), "\(Self.lastError)")
        #expect(dag_trainer_destroy(second.trainer) == DAG_OK)

        let third = try Session(resuming: first, in: first.folder)
        let descriptor = open(first.folder.path, O_RDONLY)
        defer { close(descriptor) }
        #expect(flock(descriptor, LOCK_EX | LOCK_NB) == 0)  // as another process would
        #expect(dag_trainer_start(third.trainer) == DAG_FAILED && Self.lastError.contains("is in use"))
        #expect(flock(descriptor, LOCK_UN) == 0)
        #expect(dag_trainer_start(third.trainer) == DAG_OK && dag_trainer_run(third.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(try third.lora == Self.straight.get())
    }

    @Test func callbacksAreReleasedOnce() throws {
        let session = try Session()
        #expect(session.add("brightness") == DAG_INVALID && Self.lastError.contains("there is a callback brightness already"))
        for name in ["", "Bright", "two words", "line\nbreak", "brightness,weight=2"] {
            #expect(session.add(name) == DAG_INVALID && Self.lastError.hasSuffix("is not lower-case words joined by _"))
        }
        #expect(session.add("other", settings: "weight=two") == DAG_INVALID && Self.lastError.contains("weight=two is not a finite number"))
        #expect(session.add("other", settings: "timeout=3") == DAG_INVALID)
        #expect(Self.lastError.contains("a callback knows weight, objective, normalize and on_failure"))
        #expect(session.add("other", settings: "weight=0.5,normalize=true") == DAG_OK)
        // Refused rewards were not kept. Pending scores end before the destruction does.
        #expect(session.fixture.pointee.released == 0)
        #expect(dag_trainer_start(session.trainer) == DAG_OK && dag_trainer_roll_out(session.trainer) == DAG_OK)
        #expect(session.add("late") == DAG_ORDER)
        #expect(dag_trainer_destroy(session.trainer) == DAG_OK)
        #expect(session.fixture.pointee.released == 2)
    }

    /// A reward without a trainer, in a process of its own and in this one.
    @Test(arguments: ["", ",isolation=none"]) func scorers(isolation: String) throws {
        var scorer: OpaquePointer?
        let specification = "c:libc.so.6,weight=2,score=size_t strlen(const char *metadata)" + isolation
        #expect(dag_scorer_create(specification, &scorer) == DAG_OK, "\(Self.lastError)")
        var json: UnsafePointer<CChar>?
        #expect(dag_scorer_info(scorer, &json) == DAG_OK)
        #expect(String(cString: try #require(json)).contains(#""objectives":[{"direction":"maximize","name":"score"}]"#))
        let metadata = ["{\"n\":1}", "{}"].map { (text: String) in dag_reward_text(data: UnsafePointer(strdup(text)), size: text.utf8.count)
        }
        defer { for text in metadata { free(UnsafeMutablePointer(mutating: text.data)) } }
        // Rows and images are padded.
        let pixels = [UInt8](repeating: 7, count: 100)
        var (rewards, scores) = ([Float](repeating: 0, count: 2), [Float](repeating: 0, count: 2))
        func score(_ change: (inout dag_reward_images, inout dag_reward_batch) -> Void = { _, _ in }) -> Int32 {
            pixels.withUnsafeBytes { pixels in
                metadata.withUnsafeBufferPointer { metadata in
                    var batch = dag_reward_batch()
                    batch.struct_size = UInt32(MemoryLayout<dag_reward_batch>.size)
                    (batch.count, batch.metadata) = (2, metadata.baseAddress)
                    var images = dag_reward_images(
                        struct_size: UInt32(MemoryLayout<dag_reward_images>.size), format: Int32(DAG_REWARD_U8_NHWC),
                        data: pixels.baseAddress, height: 3, width: 5, strides: (50, 16, 3, 1))
                    change(&images, &batch)
                    return withUnsafePointer(to: &images) { images in
                        batch.images = images
                        return dag_scorer_score(scorer, &batch, &rewards, &scores)
                    }
                }
            }
        }
        #expect(score() == DAG_OK && rewards == [14, 4] && scores == [7, 2], "\(Self.lastError)")
        #expect(score { $1.metadata = nil } == DAG_OK && scores == [2, 2])
        #expect(score { images, _ in images.strides.3 = 2 } == DAG_INVALID && Self.lastError.contains("strides[3] 1"))
        #expect(score { images, _ in images.height = 0 } == DAG_INVALID && Self.lastError.contains("2 images of 0 x 5"))
        #expect(score { images, _ in images.data = nil } == DAG_INVALID && Self.lastError == "batch->images->data is NULL")
        #expect(score { $1.prompts = $1.metadata } == DAG_OK && score { $1.struct_size = 0 } == DAG_INVALID)
        let destroyed = scorer
        #expect(dag_scorer_destroy(destroyed) == DAG_OK && dag_scorer_destroy(nil) == DAG_OK)
        #expect(score() == DAG_INVALID && Self.lastError == "invalid scorer handle: already destroyed or never created")
        scorer = nil
        #expect(score() == DAG_INVALID && Self.lastError == "scorer is NULL")
        for (text, part) in [("nothing", "no libnothing.so in"), ("c:libc.so.6,normalize=true,score=int rand()", "normalize=true takes")] {
            #expect(dag_scorer_create(text, &scorer) == DAG_INVALID && scorer == nil && Self.lastError.contains(part), "\(Self.lastError)")
        }
    }

    /// Every function on a trainer that is NULL, destroyed or never made: a status and a line, and nothing
    /// else.
    @Test func wrongHandles() throws {
        let session = try Session()
        let destroyed = session.trainer
        #expect(dag_trainer_destroy(destroyed) == DAG_OK && dag_trainer_destroy(nil) == DAG_OK)
        let path = session.folder.path
        for (handle, message) in [
            (nil, "trainer is NULL"), (destroyed, "already destroyed"), (OpaquePointer(bitPattern: 4096 + 1), "never created"),
        ] {
            var (json, number) = (UnsafePointer<CChar>?.none, 0.0)
            var (status, samples, pictures, callback) = (dag_status(), dag_samples(), dag_pictures(), dag_callback())
            let calls: [() -> Int32] = [
                { dag_trainer_add_plugin(handle, "libwarmth.so") }, { dag_trainer_add_callback(handle, &callback) },
                { dag_trainer_set_observer(handle, nil) }, { dag_trainer_start(handle) }, { dag_trainer_run(handle) },
                { dag_trainer_run_epoch(handle) }, { dag_trainer_roll_out(handle) }, { dag_trainer_score(handle) },
                { dag_trainer_update(handle, nil) }, { dag_trainer_save(handle) }, { dag_trainer_cancel(handle) },
                { dag_trainer_status(handle, &status) }, { dag_trainer_config(handle, &json) }, { dag_trainer_metrics(handle, &json) },
                { dag_trainer_metric(handle, "loss", &number) }, { dag_trainer_samples(handle, &samples) },
                { dag_trainer_sample(handle, nil, nil, 0, &pictures) }, { dag_trainer_evaluate(handle, &json) },
            ]
            for call in calls {
                #expect(call() == DAG_INVALID)
                #expect(Self.lastError.contains(message))
            }
        }
        #expect(dag_trainer_destroy(destroyed) == DAG_INVALID)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test(arguments: [
        ("{\"model\": 1", "config: "), ("[]", "config: is not a mapping"), ("{\"modle\": \"m\"}", "unknown key 'modle'"),
        ("{\"model\": \"m\", \"epochs\": 0}", "epochs must be from 1"),
        ("{\"model\": \"m\", \"learning_rate\": -1}", "learning_rate must be above zero"),
        ("{\"model\": \"m\", \"epochs\": \"many\"}", "epochs: 'many' is not a whole number"), ("{}", "model is missing"),
        ("{\"model\": \"m\", \"beta\": null}", "beta"), ("", "config: "),
        ("{\"model\": \"m\", \"sample_batch_size\": 7}", "(sample_batch_size x batches_per_epoch)"),
        (
            "{\"model\": \"m\", \"sample_batch_size\": 1000, \"batches_per_epoch\": 1001}",
            "an epoch of 1000 x 1001 = 1001000 trajectories (sample_batch_size x batches_per_epoch) is more than 1000000"
        ),
        ("{\"model\": \"m\", \"batches_per_epoch\": 9223372036854775807}", "batches_per_epoch must be from 1 to 1000000"),
        ("{\"model\": \"m\", \"threads\": 1025}", "threads must be from 0 to 1024, not 1025"),
        ("reward_plugin: [&a [x, x], &b [*a, *a], [*b, *b]]", "'reward_plugin' takes a value or a list of values, and nothing nested"),
        ("beta: {at: 1}", "'beta' takes a value or a list of values"),
    ]) func wrongSettings(config: String, message: String) {
        var trainer: OpaquePointer? = OpaquePointer(bitPattern: 1)
        #expect(dag_trainer_create(config, "/tmp/dag-none", &trainer) == DAG_INVALID)
        #expect(trainer == nil && Self.lastError.contains(message) && !Self.lastError.contains("--"), "\(Self.lastError)")
    }

    @Test func wrongArguments() throws {
        var trainer: OpaquePointer?
        #expect(dag_trainer_create(nil, "/tmp/dag-none", &trainer) == DAG_INVALID && Self.lastError == "config is NULL")
        #expect(dag_trainer_create("{}", "/tmp/dag-none", nil) == DAG_INVALID && Self.lastError == "trainer is NULL")
        #expect(dag_trainer_create("{\"model\": \"m\"}", nil, &trainer) == DAG_INVALID && Self.lastError == "output is NULL")
        #expect(dag_trainer_create("{\"model\": \"m\"}", "", &trainer) == DAG_INVALID)
        #expect(dag_trainer_create("\u{7f}\u{1}", "/tmp/dag-none", &trainer) == DAG_INVALID)
        let latin: [CChar] = [0x7b, -28, 0x7d, 0]
        #expect(dag_trainer_create(latin, "/tmp/dag-none", &trainer) == DAG_INVALID && Self.lastError == "config is not UTF-8")
        #expect(dag_trainer_resume("/tmp/dag-none", nil, &trainer) == DAG_INVALID && Self.lastError.contains("no run there"))
        #expect(dag_trainer_create(try Self.config(), FileManager.default.temporaryDirectory.path, &trainer) == DAG_FAILED)
        #expect(Self.lastError.contains("is not empty"))

        let session = try Session(adding: false)
        #expect(dag_trainer_add_plugin(session.trainer, "libmissing.so") == DAG_INVALID && Self.lastError.contains("no libmissing.so in"))
        #expect(dag_trainer_add_plugin(session.trainer, nil) == DAG_INVALID)
        var callback = dag_callback()
        #expect(dag_trainer_add_callback(session.trainer, nil) == DAG_INVALID)
        #expect(dag_trainer_add_callback(session.trainer, &callback) == DAG_INVALID && Self.lastError.contains("struct_size is 0"))
        callback.struct_size = UInt32(MemoryLayout<dag_callback>.size)
        #expect(dag_trainer_add_callback(session.trainer, &callback) == DAG_INVALID && Self.lastError.contains("score is NULL"))
        #expect(dag_trainer_run(session.trainer) == DAG_ORDER && Self.lastError.contains("dag_trainer_start"))
        #expect(dag_trainer_start(session.trainer) == DAG_INVALID && Self.lastError.contains("there is no reward"))
        #expect(session.add() == DAG_OK && dag_trainer_start(session.trainer) == DAG_OK && dag_trainer_start(session.trainer) == DAG_ORDER)
        #expect(dag_trainer_status(session.trainer, nil) == DAG_INVALID && dag_trainer_config(session.trainer, nil) == DAG_INVALID)
        var (pictures, seed) = (dag_pictures(), UInt64(1))
        #expect(dag_trainer_sample(session.trainer, nil, &seed, 1, &pictures) == DAG_INVALID && Self.lastError == "prompts is NULL")
        #expect(dag_trainer_sample(session.trainer, nil, &seed, 0, &pictures) == DAG_INVALID)
        #expect(dag_trainer_evaluate(session.trainer, nil) == DAG_INVALID)
        let nowhere = try Self.config(["model": "/nowhere"])
        #expect(dag_trainer_create(nowhere, session.folder.path + "-2", &trainer) == DAG_OK)
        #expect(dag_trainer_add_plugin(trainer, "libwarmth.so") == DAG_OK)
        #expect(dag_trainer_start(trainer) == DAG_INVALID && Self.lastError.contains("/nowhere: no such folder"))
        dag_trainer_destroy(trainer)
    }

    /// Two trainers that have joined, here of one process, share the work of one.
    @Test(.slow) func joining() throws {
        let changes = ["train_batch_size": 2, "gradient_accumulation_steps": 2, "max_rows_per_pass": 4]
        let alone = try Session(changes)
        #expect(dag_trainer_start(alone.trainer) == DAG_OK && dag_trainer_run(alone.trainer) == DAG_OK, "\(Self.lastError)")
        #expect(dag_trainer_join(alone.trainer, 0, 2, "127.0.0.1", 29500) == DAG_ORDER)

        let sessions = try [Session(changes), Session(changes)]
        nonisolated(unsafe) let trainers = sessions.map(\.trainer)
        let port = UInt32.random(in: 20000..<30000)  // most likely free
        #expect(dag_trainer_join(trainers[0], 2, 2, "127.0.0.1", port) == DAG_INVALID && Self.lastError == "rank is 2, but count is 2")
        #expect(dag_trainer_join(trainers[0], 0, 2, "127.0.0.1", 0) == DAG_INVALID && Self.lastError.contains("port is 0"))
        let statuses = concurrently(2) { rank -> [Int32] in
            [
                dag_trainer_join(trainers[rank], UInt32(rank), 2, "127.0.0.1", port), dag_trainer_start(trainers[rank]),
                dag_trainer_run(trainers[rank]),
            ]
        }
        #expect(statuses == [[0, 0, 0], [0, 0, 0]])
        #expect(try sessions[0].lora == alone.lora)
        #expect(!FileManager.default.fileExists(atPath: sessions[1].folder.path))  // rank 0 alone writes
    }

    /// A program that was compiled when structs were shorter gets its fields, and nothing is written beyond.
    @Test func shorterStructs() throws {
        let session = try Session()
        var status = dag_status()
        status.struct_size = UInt32(MemoryLayout<dag_status>.offset(of: \.epochs)!)
        (status.epochs, status.width) = (99, 98)
        #expect(dag_trainer_start(session.trainer) == DAG_OK && dag_trainer_status(session.trainer, &status) == DAG_OK)
        #expect(status.started == 1 && status.epochs == 99 && status.width == 98)
        #expect(status.struct_size == MemoryLayout<dag_status>.offset(of: \.epochs)!)
        var observer = dag_observer()
        observer.struct_size = UInt32(MemoryLayout<dag_observer>.offset(of: \.step)!)
        observer.context = UnsafeMutableRawPointer(session.fixture)
        observer.progress = fixture_progress
        observer.log = fixture_log
        observer.step = fixture_step
        #expect(dag_trainer_set_observer(session.trainer, &observer) == DAG_OK && dag_trainer_run_epoch(session.trainer) == DAG_OK)
        #expect(session.fixture.pointee.steps == 0 && session.fixture.pointee.progress_calls > 0)
    }

    /// Several threads at once on one trainer: one works, the others are told, and nothing breaks.
    @Test func threads() throws {
        let session = try Session()
        #expect(dag_trainer_start(session.trainer) == DAG_OK)
        nonisolated(unsafe) let trainer = session.trainer
        nonisolated(unsafe) var statuses = [Int32](repeating: -1, count: 8)
        let lock = NSLock()
        DispatchQueue.concurrentPerform(iterations: 8) { k in
            let status = dag_trainer_run_epoch(trainer)
            let error = Self.lastError
            lock.withLock { statuses[k] = status }
            #expect(error.isEmpty == (status == DAG_OK))
        }
        #expect(statuses.contains(Int32(DAG_OK)))
        #expect(statuses.allSatisfy { [DAG_OK, DAG_BUSY, DAG_ORDER].contains(Int($0)) }, "\(statuses)")
    }
}
