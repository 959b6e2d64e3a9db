import CWorker
import Foundation
import Images

/// Memory that a worker sees: the host writes pictures there and the worker reads them.
final class SharedPictures {
    let descriptor: Int32
    private var size = 0
    private var base: UnsafeMutableRawPointer?

    /// Throws `RewardError` if there is no memory to share.
    init() throws {
        descriptor = dag_worker_memory()
        guard descriptor >= 0 else { throw RewardError("no memory to share with a worker process: \(String(cString: strerror(errno)))") }
    }

    deinit {
        if let base { munmap(base, size) }
        close(descriptor)
    }

    /// Copies pictures to its start.
    func write(_ images: ImageBatch) throws {
        let needed = images.count * images.bytesPerImage
        if needed > size {
            if let base { munmap(base, size) }
            (base, size) = (nil, 0)
            // Reserved now: a full memory is an error here, not a SIGBUS at the first write.
            let failure = posix_fallocate(descriptor, 0, needed)
            let mapped = failure == 0 ? mmap(nil, needed, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) : MAP_FAILED
            guard mapped != MAP_FAILED else {
                let reason = String(cString: strerror(failure == 0 ? errno : failure))
                throw RewardError("\(needed) bytes to share pictures with a worker process are not to be had: \(reason)")
            }
            (base, size) = (mapped, needed)
        }
        images.withUnsafeBytes { base!.copyMemory(from: $0.baseAddress!, byteCount: needed) }
    }
}
