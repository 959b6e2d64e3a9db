// Between dag_reward.h and reward.go. Errors and panics become a status and a message; they never cross into the host.
package main

// #cgo CFLAGS: -fvisibility=hidden
// #include "dag_reward.h"
import "C"

import (
	"fmt"
	"runtime/cgo"
	"unsafe"
)

// Sample is one image with its prompt and metadata. It is the host's: it is valid only during the call.
type Sample struct {
	Picture  Picture
	Prompt   string // "" for a model without text
	Metadata string // a JSON object
}

// Picture has red, green and blue bytes.
type Picture struct {
	Height, Width int
	first         unsafe.Pointer
	row, column   int64
}

// RGB is the pixel in column x of row y.
func (p Picture) RGB(x, y int) [3]byte {
	if x < 0 || x >= p.Width || y < 0 || y >= p.Height {
		panic(fmt.Sprintf("pixel (%d, %d) of a picture of %d x %d", x, y, p.Width, p.Height))
	}
	return *(*[3]byte)(unsafe.Add(p.first, int64(y)*p.row+int64(x)*p.column))
}

//export goCreate
func goCreate(config *C.dag_reward_config, instance *C.uintptr_t, failure *C.dag_reward_error) C.int32_t {
	err := guarded(func() error {
		settings := map[string]string{}
		for _, setting := range unsafe.Slice(config.settings, config.setting_count) {
			settings[C.GoString(setting.key)] = C.GoString(setting.value)
		}
		reward, err := NewSymmetry(settings)
		if err == nil {
			*instance = C.uintptr_t(cgo.NewHandle(reward))
		}
		return err
	})
	return report(err, C.DAG_REWARD_INVALID, failure)
}

//export goScore
func goScore(
	instance C.uintptr_t, batch *C.dag_reward_batch, result *C.dag_reward_result, failure *C.dag_reward_error,
) C.int32_t {
	reward := cgo.Handle(instance).Value().(*Symmetry)
	count, objectives := int(batch.count), int(result.objective_count)
	scores, statuses := unsafe.Slice((*float32)(result.scores), count*objectives), unsafe.Slice(result.statuses, count)
	prompts, metadata := unsafe.Slice(batch.prompts, count), unsafe.Slice(batch.metadata, count)
	images := batch.images
	for n := range statuses {
		err := guarded(func() error {
			picture := Picture{
				int(images.height), int(images.width), unsafe.Add(images.data, int64(n)*int64(images.strides[0])),
				int64(images.strides[1]), int64(images.strides[2]),
			}
			given, err := reward.Score(Sample{picture, text(prompts[n]), text(metadata[n])})
			if err == nil && len(given) != objectives {
				err = fmt.Errorf("Score returned %d numbers for %d objectives", len(given), objectives)
			}
			copy(scores[n*objectives:], given)
			return err
		})
		if status := report(err, C.DAG_REWARD_INTERNAL, failure); status != C.DAG_REWARD_OK {
			statuses[n] = status
		}
	}
	return C.DAG_REWARD_OK
}

//export goDestroy
func goDestroy(instance C.uintptr_t) { cgo.Handle(instance).Delete() }

// guarded turns a panic into an error.
func guarded(body func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	return body()
}

// report writes the error's message into the host's buffer, and answers the status.
func report(err error, status C.int32_t, failure *C.dag_reward_error) C.int32_t {
	if err == nil {
		return C.DAG_REWARD_OK
	}
	buffer := unsafe.Slice((*byte)(unsafe.Pointer(failure.message)), failure.capacity)
	buffer[copy(buffer[:len(buffer)-1], err.Error())] = 0
	return status
}

func text(text C.dag_reward_text) string { return C.GoStringN(text.data, C.int(text.size)) }

func main() {} // a shared library has to have one
