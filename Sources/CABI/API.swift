// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation
public import CDAGCore
import CGuard
import DAGCore
import Foundation
import Models
import Rewards
import Support
import Tensors

// The functions of include/dagcore.h, which documents them.

// MARK: Versions and defaults

@c @implementation
public func dag_api_version() -> UInt32 { UInt32(DAG_API_VERSION) }

/// Texts that live as long as the process.
private enum Constants {
    nonisolated(unsafe) static let version = UnsafePointer(strdup(DAGVersion.text)!)
    nonisolated(unsafe) static let torch = UnsafePointer(strdup(Torch.version)!)
    nonisolated(unsafe) static let configuration = UnsafePointer(strdup((try? TrainingConfiguration().json()) ?? "{}")!)
}

@c @implementation
public func dag_version() -> UnsafePointer<CChar>! { Constants.version }

@c @implementation
public func dag_torch_version() -> UnsafePointer<CChar>! { Constants.torch }

@c @implementation
public func dag_last_error() -> UnsafePointer<CChar>! { guard_last_error() }

@c @implementation
public func dag_default_config() -> UnsafePointer<CChar>! { Constants.configuration }

// MARK: Making a trainer

/// Makes a trainer and hands out its handle.
private func make(_ trainer: UnsafeMutablePointer<OpaquePointer?>?, _ run: () throws -> TrainingRun) -> Int32 {
    call {
        guard let trainer else { throw Refusal.null("trainer") }
        trainer.pointee = nil
        trainer.pointee = Handles.add(EmbeddedTrainer(try run()))
    }
}

@c @implementation
public func dag_trainer_create(
    _ config: UnsafePointer<CChar>!, _ output: UnsafePointer<CChar>!, _ trainer: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    make(trainer) {
        let configuration = try TrainingConfiguration.resolve(text: text(config, "config"))
        let output = try text(output, "output")
        guard !output.isEmpty else { throw Refusal(DAG_INVALID, "output is empty; give a new folder") }
        return try TrainingRun(configuration, output: OutputFolder(output))
    }
}

@c @implementation
public func dag_trainer_resume(
    _ output: UnsafePointer<CChar>!, _ config: UnsafePointer<CChar>!, _ trainer: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    make(trainer) {
        let changes = try config.map { try text($0, "config") }
        return try TrainingRun(continuing: OutputFolder(text(output, "output"))) {
            try TrainingConfiguration.resolve(base: $0, text: changes)
        }
    }
}

@c @implementation
public func dag_trainer_add_plugin(_ trainer: OpaquePointer!, _ specification: UnsafePointer<CChar>!) -> Int32 {
    call(on: trainer) { trainer in
        let specification = try text(specification, "specification")
        try invalid { try trainer.addPlugin(specification) }
    }
}

@c @implementation
public func dag_trainer_add_callback(_ trainer: OpaquePointer!, _ callback: UnsafePointer<dag_callback>!) -> Int32 {
    call(on: trainer) { trainer in
        let callback = try read(callback, "callback")
        try invalid { try trainer.add(callback) }
    }
}

/// Turns errors in making a reward, which are the caller's, into DAG_INVALID.
private func invalid(_ body: () throws -> Void) throws {
    do { try body() } catch let error as RewardError { throw Refusal(DAG_INVALID, error.description) }
}

@c @implementation
public func dag_trainer_set_observer(_ trainer: OpaquePointer!, _ observer: UnsafePointer<dag_observer>!) -> Int32 {
    call(on: trainer) { trainer in trainer.observe(try observer.map { try read($0, "observer") }) }
}

@c @implementation
public func dag_trainer_join(
    _ trainer: OpaquePointer!, _ rank: UInt32, _ count: UInt32, _ host: UnsafePointer<CChar>!, _ port: UInt32
) -> Int32 {
    call(on: trainer) { trainer in
        let host = try host.map { try text($0, "host") }
        try trainer.join {
            guard let host else { return try Team.launched() }
            guard rank < count, count <= 1 << 16 else { throw Refusal(DAG_INVALID, "rank is \(rank), but count is \(count)") }
            guard 1...65535 ~= port else { throw Refusal(DAG_INVALID, "port is \(port); it is from 1 to 65535") }
            return try Team.meeting(rank: Int(rank), of: Int(count), host: host, port: Int(port))
        }
    }
}

// MARK: Training

@c @implementation
public func dag_trainer_start(_ trainer: OpaquePointer!) -> Int32 {
    call(on: trainer) { try $0.start() }
}

@c @implementation
public func dag_trainer_run(_ trainer: OpaquePointer!) -> Int32 { call(on: trainer) { try $0.work { try $0.run() } } }

@c @implementation
public func dag_trainer_run_epoch(_ trainer: OpaquePointer!) -> Int32 { call(on: trainer) { try $0.work { try $0.runEpoch() } } }

@c @implementation
public func dag_trainer_roll_out(_ trainer: OpaquePointer!) -> Int32 { call(on: trainer) { try $0.work { try $0.rollOut() } } }

@c @implementation
public func dag_trainer_score(_ trainer: OpaquePointer!) -> Int32 { call(on: trainer) { try $0.work { try $0.score() } } }

@c @implementation
public func dag_trainer_update(_ trainer: OpaquePointer!, _ epoch_done: UnsafeMutablePointer<Int32>!) -> Int32 {
    call(on: trainer) { trainer in
        epoch_done?.pointee = 0
        try trainer.work { trainer in
            let epoch = trainer.epochsDone
            // The epoch is done even if its metrics cannot be written.
            defer { if trainer.epochsDone > epoch { epoch_done?.pointee = 1 } }
            try trainer.update()
            // The step is complete, so a cancellation from here on applies to the next call.
            do { try trainer.record() } catch is Cancelled {}
        }
    }
}

@c @implementation
public func dag_trainer_save(_ trainer: OpaquePointer!) -> Int32 { call(on: trainer) { try $0.started().save() } }

@c @implementation
public func dag_trainer_cancel(_ trainer: OpaquePointer!) -> Int32 {
    call { try Handles.find(trainer, "trainer", as: EmbeddedTrainer.self).cancel() }
}

@c @implementation
public func dag_trainer_destroy(_ trainer: OpaquePointer!) -> Int32 {
    guard let handle = trainer else { return call {} }
    return call(on: handle) { trainer in
        Handles.remove(handle)
        trainer.close()
    }
}

// MARK: State and results

@c @implementation
public func dag_trainer_status(_ trainer: OpaquePointer!, _ status: UnsafeMutablePointer<dag_status>!) -> Int32 {
    call(on: trainer) { embedded in
        let configuration = embedded.run.configuration
        let trainer = embedded.trainer
        let size = trainer?.model.imageSize ?? (height: 0, width: 0)
        try write(
            dag_status(
                struct_size: 0, started: trainer == nil ? 0 : 1, epoch: UInt64(trainer?.epochsDone ?? 0),
                update: UInt64(trainer?.updatesDone ?? 0), step: UInt64(trainer?.stepsDone ?? 0), epochs: UInt64(configuration.epochs),
                updates_per_epoch: UInt64(configuration.updatesPerEpoch),
                trajectories_per_epoch: UInt64(configuration.trajectoriesPerEpoch),
                height: UInt32(size.height), width: UInt32(size.width)), to: status, "status")
    }
}

/// Lends a text to the caller.
private func lend(
    _ trainer: EmbeddedTrainer, _ purpose: String, to pointer: UnsafeMutablePointer<UnsafePointer<CChar>?>?,
    _ text: () throws -> String
) throws {
    guard let pointer else { throw Refusal.null("json") }
    pointer.pointee = trainer.lend(purpose).copy(try text())
}

@c @implementation
public func dag_trainer_config(_ trainer: OpaquePointer!, _ json: UnsafeMutablePointer<UnsafePointer<CChar>?>!) -> Int32 {
    call(on: trainer) { trainer in try lend(trainer, "config", to: json) { try trainer.run.configuration.json() } }
}

@c @implementation
public func dag_trainer_metrics(_ trainer: OpaquePointer!, _ json: UnsafeMutablePointer<UnsafePointer<CChar>?>!) -> Int32 {
    call(on: trainer) { trainer in try lend(trainer, "metrics", to: json) { try trainer.newestMetrics() } }
}

@c @implementation
public func dag_trainer_metric(_ trainer: OpaquePointer!, _ key: UnsafePointer<CChar>!, _ value: UnsafeMutablePointer<Double>!) -> Int32 {
    call(on: trainer) { trainer in
        let key = try text(key, "key")
        guard let value else { throw Refusal.null("value") }
        let object = try JSONSerialization.jsonObject(with: Data(try trainer.newestMetrics().utf8)) as? [String: Any] ?? [:]
        guard let number = object[key] else {
            throw Refusal(DAG_INVALID, "there is no metric '\(key)'; there are \(object.keys.sorted().joined(separator: ", "))")
        }
        value.pointee = (number as? NSNumber)?.doubleValue ?? .nan
    }
}

@c @implementation
public func dag_trainer_samples(_ trainer: OpaquePointer!, _ samples: UnsafeMutablePointer<dag_samples>!) -> Int32 {
    call(on: trainer) { embedded in
        let trainer = try embedded.started()
        guard let current = trainer.samples else {
            throw Refusal(DAG_ORDER, "no epoch has been scored yet: roll out and score first, or run one")
        }
        let lent = embedded.lend("samples")
        let images = current.images
        let objectives = current.scores.objectives
        let names = objectives.map { lent.copy($0.name) as UnsafePointer<CChar>? }
        let scores = current.prompts.indices.flatMap { k in objectives.map { $0.scores[k] } }
        try write(
            dag_samples(
                struct_size: 0, count: UInt32(images.count), height: UInt32(images.height), width: UInt32(images.width),
                images: lent.pixels(of: images), prompts: lent.copy(current.prompts.map(\.text)), sample_ids: lent.copy(current.ids),
                seeds: lent.copy(current.seeds), rewards: lent.copy(current.scores.final), scores: lent.copy(scores),
                objectives: lent.copy(names), objective_count: UInt32(names.count),
                epoch: UInt32(current.epoch)), to: samples, "samples")
    }
}

@c @implementation
public func dag_trainer_sample(
    _ trainer: OpaquePointer!, _ prompts: UnsafePointer<UnsafePointer<CChar>?>!, _ seeds: UnsafePointer<UInt64>!, _ count: UInt32,
    _ pictures: UnsafeMutablePointer<dag_pictures>!
) -> Int32 {
    call(on: trainer) { trainer in
        guard let seeds else { throw Refusal.null("seeds") }
        guard count > 0 else { throw Refusal(DAG_INVALID, "count is 0") }
        let needsText = try trainer.started().model.textWidth != nil
        guard prompts != nil || !needsText else { throw Refusal.null("prompts") }
        let chosen = try (0..<Int(count)).map { k in Prompt(try prompts.map { try text($0[k], "prompts[\(k)]") } ?? "") }
        let images = try trainer.work { try $0.sample(chosen, seeds: Array(UnsafeBufferPointer(start: seeds, count: Int(count)))) }
        try write(
            dag_pictures(
                struct_size: 0, count: count, height: UInt32(images.height), width: UInt32(images.width),
                images: trainer.lend("images").pixels(of: images)), to: pictures, "pictures")
    }
}

@c @implementation
public func dag_trainer_evaluate(_ trainer: OpaquePointer!, _ json: UnsafeMutablePointer<UnsafePointer<CChar>?>!) -> Int32 {
    call(on: trainer) { trainer in
        try lend(trainer, "evaluation", to: json) {
            try trainer.work { String(decoding: try $0.evaluate().json(), as: UTF8.self) }
        }
    }
}

// MARK: Rewards without a trainer

@c @implementation
public func dag_scorer_create(_ specification: UnsafePointer<CChar>!, _ scorer: UnsafeMutablePointer<OpaquePointer?>!) -> Int32 {
    call {
        guard let scorer else { throw Refusal.null("scorer") }
        scorer.pointee = nil
        let specification = try text(specification, "specification")
        try invalid { scorer.pointee = Handles.add(try Scorer(specification)) }
    }
}

@c @implementation
public func dag_scorer_info(_ scorer: OpaquePointer!, _ json: UnsafeMutablePointer<UnsafePointer<CChar>?>!) -> Int32 {
    call {
        guard let json else { throw Refusal.null("json") }
        json.pointee = try Handles.find(scorer, "scorer", as: Scorer.self).info
    }
}

@c @implementation
public func dag_scorer_score(
    _ scorer: OpaquePointer!, _ batch: UnsafePointer<dag_reward_batch>!, _ rewards: UnsafeMutablePointer<Float>!,
    _ scores: UnsafeMutablePointer<Float>!
) -> Int32 {
    call {
        let report = try Handles.find(scorer, "scorer", as: Scorer.self).score(RewardBatch(try read(batch, "batch")))
        let count = report.reward.count
        rewards?.update(from: report.reward, count: count)
        guard let scores else { return }
        for (place, objective) in report.objectives.enumerated() {
            for k in 0..<count { scores[k * report.objectives.count + place] = objective.scores[k] }
        }
    }
}

@c @implementation
public func dag_scorer_destroy(_ scorer: OpaquePointer!) -> Int32 {
    call {
        guard let scorer else { return }
        _ = try Handles.find(scorer, "scorer", as: Scorer.self)
        Handles.remove(scorer)
    }
}
