import HostileDevice
import Tensors

/// Whether a device that refuses to be taken for the CPU stands in for a GPU. Where libtorch has CUDA it cannot.
package let hasHostileDevice = !Device.cudaIsAvailable && hostile_device_start()

/// Devices that are not the CPU: the machine's GPU, or the one that stands in for it; none where there is neither.
package let otherDevices: [Device] = hasHostileDevice || Device.cudaIsAvailable ? [.cuda] : []
