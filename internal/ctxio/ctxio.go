// Package ctxio reads input until a context ends. It is for input whose size or speed cfgd does not control.
// What always holds: after the context has ended no further read begins, and the error is the context's.
package ctxio

import (
	"context"
	"io"
)

// Reader returns a reader that fails with the context's error when ctx has ended.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
