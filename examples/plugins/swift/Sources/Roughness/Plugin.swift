// The author's side of dag_reward.h in Swift. This file stands alone, so that it can be copied; in the
// repository of DAG, Sources/RewardPluginKit/Plugin.swift does the same for rewards on libtorch. A change of
// the ABI concerns both.
import CDAGReward

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What an author writes. Calls into one instance do not overlap; several instances may be at work at once.
protocol PluginReward: AnyObject {
    static var description: RewardDescription { get }
    /// Loads the model. All declared options are there, with the user's value or the default.
    init(options: [String: String]) throws
    /// One number for each objective. An error is this sample's alone.
    func score(_ sample: Sample) throws -> [Float]
}

/// What the host learns before it loads anything.
struct RewardDescription {
    struct Objective {
        enum Direction: Int32 { case maximize = 1, minimize = -1 }
        let name: String, direction: Direction, detail: String
        init(_ name: String, _ direction: Direction = .maximize, detail: String) {
            (self.name, self.direction, self.detail) = (name, direction, detail)
        }
    }
    struct Option {
        let key: String, defaultValue: String, detail: String
        init(_ key: String, default defaultValue: String, detail: String) {
            (self.key, self.defaultValue, self.detail) = (key, defaultValue, detail)
        }
    }
    var name: String, version: String, detail: String, license: String, source: String
    var objectives: [Objective]
    var options: [Option] = []
    var isDeterministic = true
    /// Pictures in one call at most; 0: any number.
    var largestBatch: UInt32 = 0
}

/// What there is to know about one picture. It is the host's: nothing of it may be kept.
struct Sample {
    let picture: Picture
    /// "" for a model without text.
    let prompt: String
    /// A JSON object.
    let metadata: String
}

/// One picture of a batch.
struct Picture {
    let height: Int, width: Int
    fileprivate let first: UnsafeRawPointer
    fileprivate let strides: (row: Int, column: Int)

    subscript(y: Int, x: Int) -> (red: UInt8, green: UInt8, blue: UInt8) {
        precondition(y >= 0 && y < height && x >= 0 && x < width, "pixel out of range")
        return (first + y * strides.row + x * strides.column).loadUnaligned(as: (UInt8, UInt8, UInt8).self)
    }
}

/// An error with a status of its own; any other error that is thrown counts as an internal one.
enum RewardFailure: Error {
    /// A setting or a picture that is wrong: the user has to change something.
    case invalid(String)
    /// A file or a service that could not be reached.
    case unreachable(String)
}

// MARK: - The C interface

/// The one exported function. (`@_cdecl` is spelt `@c` from Swift 6.3 on.)
@_cdecl("dag_reward_entry")
public func entry(
    host: UnsafePointer<dag_reward_host>, plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 {
    let version = UInt32(DAG_REWARD_ABI_VERSION)
    guard host.pointee.abi_min <= version, version <= host.pointee.abi_max else {
        let range = "\(host.pointee.abi_min) to \(host.pointee.abi_max)"
        return fail(error, DAG_REWARD_UNSUPPORTED, "speaks reward ABI \(version), the host speaks \(range)")
    }
    plugin.pointee = table
    return Int32(DAG_REWARD_OK)
}

/// Lives as long as the process, as all that it points to.
private nonisolated(unsafe) let table: UnsafePointer<dag_reward_plugin> = {
    let this = TheReward.description
    let info = dag_reward_info(
        struct_size: size(of: dag_reward_info.self), flags: this.isDeterministic ? UInt32(DAG_REWARD_DETERMINISTIC) : 0,
        name: strdup(this.name), version: strdup(this.version), description: strdup(this.detail), license: strdup(this.license),
        source: strdup(this.source), objective_count: UInt32(this.objectives.count), option_count: UInt32(this.options.count),
        image_format_count: 1, device_count: 1,
        objectives: constants(
            this.objectives.map {
                dag_reward_objective(
                    struct_size: size(of: dag_reward_objective.self), direction: $0.direction.rawValue, name: strdup($0.name),
                    description: strdup($0.detail))
            }),
        options: constants(
            this.options.map {
                dag_reward_option(
                    struct_size: size(of: dag_reward_option.self), reserved: 0, key: strdup($0.key),
                    default_value: strdup($0.defaultValue), description: strdup($0.detail))
            }),
        image_formats: constants([Int32(DAG_REWARD_U8_NHWC)]), devices: constants([UnsafePointer(strdup("cpu"))]),
        thread_mode: UInt32(DAG_REWARD_PER_INSTANCE), largest_batch: this.largestBatch)
    return constants([
        dag_reward_plugin(
            struct_size: size(of: dag_reward_plugin.self), abi_version: UInt32(DAG_REWARD_ABI_VERSION), info: constants([info]),
            create: { create($1!, $2!, $3!) }, score: { score($0!, $1!, $2!, $3!) },
            destroy: { Unmanaged<TheReward>.fromOpaque($0!).release() }, extension: nil)
    ])
}()

private func create(
    _ config: UnsafePointer<dag_reward_config>, _ instance: UnsafeMutablePointer<UnsafeMutableRawPointer?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 {
    var options: [String: String] = [:]
    for index in 0..<Int(config.pointee.setting_count) {
        let setting = config.pointee.settings[index]
        options[String(cString: setting.key)] = String(cString: setting.value)
    }
    return guarded(error) { instance.pointee = Unmanaged.passRetained(try TheReward(options: options)).toOpaque() }
}

private func score(
    _ instance: UnsafeMutableRawPointer, _ batch: UnsafePointer<dag_reward_batch>, _ result: UnsafePointer<dag_reward_result>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 {
    let reward = Unmanaged<TheReward>.fromOpaque(instance).takeUnretainedValue()
    let (batch, images) = (batch.pointee, batch.pointee.images.pointee)
    let objectives = Int(result.pointee.objective_count)
    for n in 0..<Int(batch.count) {
        let picture = Picture(
            height: Int(images.height), width: Int(images.width), first: images.data + n * Int(images.strides.0),
            strides: (Int(images.strides.1), Int(images.strides.2)))
        result.pointee.statuses[n] = guarded(error) {
            let scores = try reward.score(Sample(picture: picture, prompt: text(batch.prompts[n]), metadata: text(batch.metadata[n])))
            guard scores.count == objectives else {
                throw RewardFailure.invalid("score returned \(scores.count) numbers for \(objectives) objectives")
            }
            for (index, score) in scores.enumerated() { result.pointee.scores[n * objectives + index] = score }
        }
    }
    return Int32(DAG_REWARD_OK)
}

/// Runs the author's code; an error becomes a status and a message.
private func guarded(_ error: UnsafeMutablePointer<dag_reward_error>, _ body: () throws -> Void) -> Int32 {
    do {
        try body()
        return Int32(DAG_REWARD_OK)
    } catch RewardFailure.invalid(let message) {
        return fail(error, DAG_REWARD_INVALID, message)
    } catch RewardFailure.unreachable(let message) {
        return fail(error, DAG_REWARD_IO, message)
    } catch let other {
        return fail(error, DAG_REWARD_INTERNAL, "\(other)")
    }
}

private func fail(_ error: UnsafeMutablePointer<dag_reward_error>, _ status: Int, _ message: String) -> Int32 {
    guard let buffer = error.pointee.message else { return Int32(status) }
    let bytes = message.utf8.prefix(Int(error.pointee.capacity) - 1)
    for (index, byte) in bytes.enumerated() { buffer[index] = CChar(bitPattern: byte) }
    buffer[bytes.count] = 0
    return Int32(status)
}

private func text(_ text: dag_reward_text) -> String {
    String(decoding: UnsafeRawBufferPointer(start: text.data, count: text.size), as: UTF8.self)
}

private func size<Value>(of type: Value.Type) -> UInt32 { UInt32(MemoryLayout<Value>.size) }

private func constants<Value>(_ values: [Value]) -> UnsafePointer<Value> {
    let pointer = UnsafeMutablePointer<Value>.allocate(capacity: values.count)
    pointer.initialize(from: values, count: values.count)
    return UnsafePointer(pointer)
}
