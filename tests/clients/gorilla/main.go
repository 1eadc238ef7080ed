// A subscriber with Go's gorilla/websocket, which offers permessage-deflate; see
// `support.ClientProgram` for the lines that it prints.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/gorilla/websocket"
)

func main() {
	url, channels := os.Args[1], os.Args[2:]
	dialer := websocket.Dialer{Subprotocols: []string{"fanfare.v1.json"}, EnableCompression: true}
	socket, _, err := dialer.Dial(url, nil)
	check(err)
	fmt.Println("open", socket.Subprotocol())
	socket.SetPongHandler(func(string) error {
		fmt.Println("pong")
		params := map[string]any{"channels": channels, "policy": "all", "snapshot": false}
		return socket.WriteJSON(map[string]any{"method": "subscribe", "params": params, "req_id": 1})
	})
	check(socket.WriteMessage(websocket.PingMessage, nil))
	for {
		_, message, err := socket.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			fmt.Println("closed", closed.Code)
			return
		}
		check(err)
		os.Stdout.Write(append(message, '\n'))
	}
}

// check ends the program with what went wrong: the test shows what it wrote to standard error.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
