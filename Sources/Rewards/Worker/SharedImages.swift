import CWorker
import Foundation
import Images

/// Memory that the host shares with a worker: the host writes images there and the worker reads them.
final class SharedImages {
    let descriptor: Int32
    private var size = 0
    private var base: UnsafeMutableRawPointer?

    /// - Throws: `RewardError` if the memory cannot be made.
    init() throws {
        descriptor = dag_worker_memory()
        guard descriptor >= 0 else {
            throw RewardError("cannot make memory to share with a worker process: \(String(cString: strerror(errno)))")
        }
    }

    deinit {
        if let base { munmap(base, size) }
        close(descriptor)
    }

    /// Copies images to the start of the memory, in place of those before.
    /// - Throws: `RewardError` if the memory cannot be enlarged.
    func write(_ images: ImageBatch) throws {
        let needed = images.count * images.bytesPerImage
        if needed > size {
            if let base { munmap(base, size) }
            base = nil
            size = 0
            // Reserved now: a full memory is an error here, not a SIGBUS at the first write.
            let failure = posix_fallocate(descriptor, 0, needed)
            let mapped = failure == 0 ? mmap(nil, needed, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) : MAP_FAILED
            guard mapped != MAP_FAILED else {
                let reason = String(cString: strerror(failure == 0 ? errno : failure))
                throw RewardError("cannot allocate \(needed) bytes to share images with a worker process: \(reason)")
            }
            base = mapped
            size = needed
        }
        images.withUnsafeBytes { base!.copyMemory(from: $0.baseAddress!, byteCount: needed) }
    }
}
