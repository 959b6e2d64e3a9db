import HostileDevice
import Tensors

/// A device that is not the CPU: the machine's GPU, or where there is none one that refuses to be taken for the CPU.
package let otherDevice: Device = {
    if !Device.cudaIsAvailable { hostile_device_start() }
    return .cuda
}()
